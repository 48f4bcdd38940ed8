-- What was recorded stays as it was recorded: whoever writes, with whatever SQL.
CREATE FUNCTION refuse_change_of_refund_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'payment_refund_events is append-only' USING ERRCODE = 'restrict_violation';
END
$$;
--> statement-breakpoint
CREATE TRIGGER payment_refund_events_append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON payment_refund_events
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_refund_events();
