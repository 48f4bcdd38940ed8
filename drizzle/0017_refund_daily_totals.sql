CREATE TABLE "refund_daily_totals" (
	"day" date NOT NULL,
	"status" integer NOT NULL,
	"writer" integer NOT NULL,
	"refunds" bigint NOT NULL,
	"amount" numeric(38, 2) NOT NULL,
	CONSTRAINT "refund_daily_totals_pk" PRIMARY KEY("day","status","writer"),
	CONSTRAINT "refund_daily_totals_amount_check" CHECK ("refund_daily_totals"."amount" <> 'NaN')
);
--> statement-breakpoint
CREATE INDEX "idx_refund_daily_totals_unmerged" ON "refund_daily_totals" USING btree ("day") WHERE "refund_daily_totals"."writer" <> 0;--> statement-breakpoint
-- On a large table they are made beforehand with CREATE INDEX CONCURRENTLY. What is there already must not be locked:
-- CREATE INDEX IF NOT EXISTS would lock its table all the same, and refunds that are being made would deadlock with it.
DO $$
DECLARE
  definition text;
  made regclass;
BEGIN
  FOREACH definition IN ARRAY ARRAY[
    'idx_payment_refunds_created_at_id ON payment_refunds USING btree (created_at,id)',
    'idx_payment_refunds_status_created_at_id ON payment_refunds USING btree (status,created_at,id)'
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
