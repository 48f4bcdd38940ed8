CREATE TABLE "payment_monthly_totals" (
	"month" date NOT NULL,
	"status" integer NOT NULL,
	"payment_method" varchar(20) NOT NULL,
	"payments" bigint NOT NULL,
	"amount" numeric(38, 2) NOT NULL,
	CONSTRAINT "payment_monthly_totals_month_status_payment_method_pk" PRIMARY KEY("month","status","payment_method")
);
--> statement-breakpoint
CREATE INDEX "idx_payment_daily_totals_unmerged" ON "payment_daily_totals" USING btree ("day") WHERE "payment_daily_totals"."writer" <> 0;