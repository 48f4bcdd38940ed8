CREATE TABLE "payment_refund_events" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"refund_id" bigint NOT NULL,
	"actor" varchar(255) NOT NULL,
	"from_status" integer,
	"to_status" integer NOT NULL,
	"request_id" varchar(64) NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "payment_refund_events" ADD CONSTRAINT "payment_refund_events_refund_id_payment_refunds_id_fk" FOREIGN KEY ("refund_id") REFERENCES "public"."payment_refunds"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "idx_payment_refund_events_refund_id" ON "payment_refund_events" USING btree ("refund_id");