-- On a large table they are made beforehand with CREATE INDEX CONCURRENTLY. What is there already must not be locked:
-- CREATE INDEX IF NOT EXISTS would lock its table all the same, and refunds that are being made would deadlock with it.
DO $$
DECLARE
  definition text;
  made regclass;
BEGIN
  FOREACH definition IN ARRAY ARRAY[
    'idx_gateway_notifications_out_refund_no ON gateway_notifications USING btree (out_refund_no) WHERE gateway_notifications.payment_id IS NULL',
    'idx_gateway_payments_trade_no ON gateway_payments USING btree (trade_no) WHERE gateway_payments.trade_no IS NOT NULL',
    'idx_gateway_refunds_gateway_refund_no ON gateway_refunds USING btree (gateway_refund_no) WHERE gateway_refunds.gateway_refund_no IS NOT NULL'
  ] LOOP
    made := to_regclass(split_part(definition, ' ', 1));
    IF made IS NULL THEN
      EXECUTE 'CREATE INDEX ' || definition;
    ELSIF NOT (SELECT indisvalid FROM pg_index WHERE indexrelid = made) THEN
      RAISE EXCEPTION 'the index % is not valid: DROP INDEX CONCURRENTLY it and make it again', made;
    END IF;
  END LOOP;
END
$$;
--> statement-breakpoint

-- The payments that a number names, exactly: at most 20, in the order of the kinds, the newest first. Each is there
-- once, under the first kind that fits. wanted_id is the number where it can be an id, else NULL. `listed` are their
-- payment_rows(). In PL/pgSQL for the same reason as those of 0013: to plan eleven index scans for each request
-- would take three times as long as to execute them. PostgreSQL would plan them each time all the same, since it
-- takes the kept plan for a little dearer; hence the SET. The function has the rights of its caller.
CREATE FUNCTION lookup_number(wanted text, wanted_id bigint, OUT hits json, OUT listed json)
  LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  WITH hit (place, kind, payment_id, refund_id) AS (
    SELECT 1, 'order_no', id, NULL::bigint FROM payments WHERE order_id IN (SELECT orders.id FROM orders WHERE order_no = wanted)
    UNION ALL
    SELECT 2, 'payment_no', id, NULL FROM payments WHERE payment_no = wanted
    UNION ALL
    SELECT 3, 'refund_no', payment_id, id FROM payment_refunds WHERE refund_no = wanted
    UNION ALL
    SELECT 4, 'callback_no', payment_id, NULL FROM payment_callbacks WHERE callback_no = wanted
    UNION ALL
    SELECT 5, 'out_refund_no', payment_id, id FROM gateway_refunds JOIN payment_refunds ON id = refund_id WHERE out_refund_no = wanted
    UNION ALL
    SELECT 6, 'gateway_refund_no', payment_id, id FROM gateway_refunds JOIN payment_refunds ON id = refund_id WHERE gateway_refund_no = wanted
    UNION ALL
    SELECT 7, 'out_trade_no', payment_id, NULL FROM gateway_payments WHERE out_trade_no = wanted
    UNION ALL
    SELECT 8, 'trade_no', payment_id, NULL FROM gateway_payments WHERE trade_no = wanted
    UNION ALL
    SELECT 9, 'payment_id', id, NULL FROM payments WHERE id = wanted_id
    UNION ALL
    SELECT 10, 'refund_id', payment_id, id FROM payment_refunds WHERE id = wanted_id
    UNION ALL
    SELECT 11, 'order_id', id, NULL FROM payments WHERE order_id = wanted_id
  ), first_hit AS (
    SELECT DISTINCT ON (payment_id) * FROM hit ORDER BY payment_id, place, refund_id DESC
  ), shown AS (
    SELECT kind, payment_id, refund_id, row_number() OVER (ORDER BY place, created_at DESC, payment_id DESC) AS rank
    FROM first_hit JOIN payments ON id = payment_id
    ORDER BY rank LIMIT 20
  )
  SELECT coalesce(json_agg(json_build_object('kind', kind, 'payment_id', payment_id::text, 'refund_id', refund_id::text) ORDER BY rank), '[]'),
    payment_rows(array_agg(payment_id))
  INTO hits, listed FROM shown;
END $$;
