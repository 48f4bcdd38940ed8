CREATE TABLE "payment_daily_totals" (
	"day" date NOT NULL,
	"status" integer NOT NULL,
	"payment_method" varchar(20) NOT NULL,
	"writer" integer NOT NULL,
	"payments" bigint NOT NULL,
	"amount" numeric(38, 2) NOT NULL,
	CONSTRAINT "payment_daily_totals_day_status_payment_method_writer_pk" PRIMARY KEY("day","status","payment_method","writer")
);
--> statement-breakpoint
CREATE INDEX "idx_payments_payment_method_created_at_id" ON "payments" USING btree ("payment_method","created_at" DESC NULLS FIRST,"id" DESC NULLS FIRST);