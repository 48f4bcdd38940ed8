-- Says which rows stand in the way, before a constraint refuses them without naming one.
DO $$
DECLARE
  place record;
  ids text;
BEGIN
  FOR place IN VALUES
    ('payments', 'id <= 0 OR amount > 9999999999999999.99'),
    ('payments', 'NOT (created_at >= ''0001-01-01 00:00:00+00'' AND created_at < ''10000-01-01 00:00:00+00'')'),
    ('payments', 'NOT (payment_time >= ''0001-01-01 00:00:00+00'' AND payment_time < ''10000-01-01 00:00:00+00'')'),
    ('payments', 'NOT (refund_time >= ''0001-01-01 00:00:00+00'' AND refund_time < ''10000-01-01 00:00:00+00'')'),
    ('payments', 'NOT (updated_at >= ''0001-01-01 00:00:00+00'' AND updated_at < ''10000-01-01 00:00:00+00'')'),
    ('payment_callbacks', 'id <= 0'),
    ('payment_callbacks', 'NOT (created_at >= ''0001-01-01 00:00:00+00'' AND created_at < ''10000-01-01 00:00:00+00'')'),
    ('payment_refunds', 'id <= 0 OR amount > 9999999999999999.99'),
    ('payment_refunds', 'NOT (created_at >= ''0001-01-01 00:00:00+00'' AND created_at < ''10000-01-01 00:00:00+00'')'),
    ('payment_refund_events', 'NOT (created_at >= ''0001-01-01 00:00:00+00'' AND created_at < ''10000-01-01 00:00:00+00'')')
  LOOP
    EXECUTE format('SELECT string_agg(id::text, '', '') FROM (SELECT id FROM %I WHERE %s ORDER BY id LIMIT 20) AS rows', place.column1, place.column2) INTO ids;
    IF ids IS NOT NULL THEN
      RAISE 'Correct these rows of % before the migration, ids %: %', place.column1, ids, place.column2
        USING ERRCODE = 'check_violation',
          HINT = 'For payment_refund_events: its trigger payment_refund_events_append_only has to be disabled meanwhile.';
    END IF;
  END LOOP;
END $$;
--> statement-breakpoint
CREATE TABLE "payment_refund_totals" (
	"payment_id" bigint PRIMARY KEY NOT NULL,
	"reserved" numeric(38, 2) NOT NULL,
	"succeeded" numeric(38, 2) NOT NULL,
	"amount" numeric(18, 2) NOT NULL,
	"status" integer NOT NULL,
	"payment_method" varchar(20) NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"refund_state" integer GENERATED ALWAYS AS (CASE WHEN succeeded = 0 THEN 0 WHEN succeeded < amount THEN 1 ELSE 2 END) STORED NOT NULL,
	CONSTRAINT "payment_refund_totals_reserved_check" CHECK ("payment_refund_totals"."reserved" <> 'NaN'),
	CONSTRAINT "payment_refund_totals_succeeded_check" CHECK ("payment_refund_totals"."succeeded" <> 'NaN'),
	CONSTRAINT "payment_refund_totals_amount_check" CHECK ("payment_refund_totals"."amount" <> 'NaN')
);
--> statement-breakpoint
ALTER TABLE "payment_refund_totals" ADD CONSTRAINT "payment_refund_totals_payment_id_payments_id_fk" FOREIGN KEY ("payment_id") REFERENCES "public"."payments"("id") ON DELETE cascade ON UPDATE cascade;--> statement-breakpoint
CREATE INDEX "idx_payment_refund_totals_state_status_created_at_id" ON "payment_refund_totals" USING btree ("refund_state","status","created_at" DESC NULLS FIRST,"payment_id" DESC NULLS FIRST);--> statement-breakpoint
CREATE INDEX "idx_payment_refund_totals_state_method_status_created_at_id" ON "payment_refund_totals" USING btree ("refund_state","payment_method","status","created_at" DESC NULLS FIRST,"payment_id" DESC NULLS FIRST);--> statement-breakpoint
-- On a large table, made beforehand with CREATE INDEX CONCURRENTLY.
CREATE INDEX IF NOT EXISTS "idx_payments_payment_method_status_created_at_id" ON "payments" USING btree ("payment_method","status","created_at" DESC NULLS FIRST,"id" DESC NULLS FIRST);--> statement-breakpoint
DROP INDEX "idx_payments_payment_method_created_at_id_status";--> statement-breakpoint
ALTER TABLE "payment_daily_totals" ADD COLUMN "refund_state" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "payment_daily_totals" DROP CONSTRAINT "payment_daily_totals_day_status_payment_method_writer_pk";--> statement-breakpoint
ALTER TABLE "payment_daily_totals" ADD CONSTRAINT "payment_daily_totals_pk" PRIMARY KEY("day","status","payment_method","refund_state","writer");--> statement-breakpoint
ALTER TABLE "payment_daily_totals" ADD CONSTRAINT "payment_daily_totals_amount_check" CHECK ("payment_daily_totals"."amount" <> 'NaN');--> statement-breakpoint
ALTER TABLE "payment_monthly_totals" ADD COLUMN "refund_state" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "payment_monthly_totals" DROP CONSTRAINT "payment_monthly_totals_month_status_payment_method_pk";--> statement-breakpoint
ALTER TABLE "payment_monthly_totals" ADD CONSTRAINT "payment_monthly_totals_pk" PRIMARY KEY("month","status","payment_method","refund_state");--> statement-breakpoint
ALTER TABLE "payment_monthly_totals" ADD CONSTRAINT "payment_monthly_totals_amount_check" CHECK ("payment_monthly_totals"."amount" <> 'NaN');--> statement-breakpoint
ALTER TABLE "payment_refund_events" ADD COLUMN "reason" varchar(255),
  ADD CONSTRAINT "payment_refund_events_reason_check" CHECK (btrim("payment_refund_events"."reason") <> ''),
  ADD CONSTRAINT "payment_refund_events_created_at_check" CHECK ("payment_refund_events"."created_at" >= '0001-01-01 00:00:00+00' AND "payment_refund_events"."created_at" < '10000-01-01 00:00:00+00');--> statement-breakpoint
-- One ALTER TABLE for each table, so that the constraints are checked in one scan of it.
ALTER TABLE "payment_callbacks"
  ADD CONSTRAINT "payment_callbacks_id_check" CHECK ("payment_callbacks"."id" > 0),
  ADD CONSTRAINT "payment_callbacks_created_at_check" CHECK ("payment_callbacks"."created_at" >= '0001-01-01 00:00:00+00' AND "payment_callbacks"."created_at" < '10000-01-01 00:00:00+00');--> statement-breakpoint
ALTER TABLE "payment_refunds"
  DROP CONSTRAINT "payment_refunds_amount_check",
  ADD CONSTRAINT "payment_refunds_amount_check" CHECK ("payment_refunds"."amount" > 0 AND "payment_refunds"."amount" <= 9999999999999999.99),
  ADD CONSTRAINT "payment_refunds_id_check" CHECK ("payment_refunds"."id" > 0),
  ADD CONSTRAINT "payment_refunds_created_at_check" CHECK ("payment_refunds"."created_at" >= '0001-01-01 00:00:00+00' AND "payment_refunds"."created_at" < '10000-01-01 00:00:00+00');--> statement-breakpoint
ALTER TABLE "payments"
  DROP CONSTRAINT "payments_amount_check",
  DROP CONSTRAINT "payments_created_at_check",
  ADD CONSTRAINT "payments_id_check" CHECK ("payments"."id" > 0),
  ADD CONSTRAINT "payments_amount_check" CHECK ("payments"."amount" BETWEEN 0 AND 9999999999999999.99),
  ADD CONSTRAINT "payments_payment_time_check" CHECK ("payments"."payment_time" >= '0001-01-01 00:00:00+00' AND "payments"."payment_time" < '10000-01-01 00:00:00+00'),
  ADD CONSTRAINT "payments_refund_time_check" CHECK ("payments"."refund_time" >= '0001-01-01 00:00:00+00' AND "payments"."refund_time" < '10000-01-01 00:00:00+00'),
  ADD CONSTRAINT "payments_created_at_check" CHECK ("payments"."created_at" >= '0001-01-01 00:00:00+00' AND "payments"."created_at" < '10000-01-01 00:00:00+00'),
  ADD CONSTRAINT "payments_updated_at_check" CHECK ("payments"."updated_at" >= '0001-01-01 00:00:00+00' AND "payments"."updated_at" < '10000-01-01 00:00:00+00');
