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
-- On a large table, both are made beforehand with CREATE INDEX CONCURRENTLY.
CREATE INDEX IF NOT EXISTS "idx_payment_refunds_created_at_id" ON "payment_refunds" USING btree ("created_at","id");--> statement-breakpoint
CREATE INDEX IF NOT EXISTS "idx_payment_refunds_status_created_at_id" ON "payment_refunds" USING btree ("status","created_at","id");