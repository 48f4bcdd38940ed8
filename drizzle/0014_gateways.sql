CREATE TABLE "gateway_health" (
	"gateway" varchar(20) PRIMARY KEY NOT NULL,
	"paused_until" timestamp with time zone,
	"code" varchar(64),
	"refusals" integer DEFAULT 0 NOT NULL,
	"refused_payment_id" bigint,
	"updated_at" timestamp with time zone DEFAULT now()
);
--> statement-breakpoint
CREATE TABLE "gateway_identity" (
	"id" varchar(8) PRIMARY KEY NOT NULL
);
--> statement-breakpoint
CREATE TABLE "gateway_notifications" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"gateway" varchar(20) NOT NULL,
	"notification_key" varchar(128) NOT NULL,
	"event" varchar(64) NOT NULL,
	"serial" varchar(64),
	"signature" jsonb NOT NULL,
	"body" "bytea",
	"body_sha256" varchar(64) NOT NULL,
	"out_trade_no" varchar(64),
	"out_refund_no" varchar(64),
	"payment_id" bigint,
	"deliveries" integer DEFAULT 1 NOT NULL,
	"received_at" timestamp with time zone DEFAULT now() NOT NULL,
	"processed_at" timestamp with time zone,
	"result" varchar(32) DEFAULT 'received' NOT NULL,
	CONSTRAINT "gateway_notifications_key_unique" UNIQUE("gateway","notification_key")
);
--> statement-breakpoint
CREATE TABLE "gateway_payments" (
	"payment_id" bigint PRIMARY KEY NOT NULL,
	"out_trade_no" varchar(64),
	"trade_no" varchar(64),
	"account" varchar(64),
	"attention" varchar(64),
	"attention_at" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now()
);
--> statement-breakpoint
CREATE TABLE "gateway_refunds" (
	"refund_id" bigint PRIMARY KEY NOT NULL,
	"gateway" varchar(20) NOT NULL,
	"out_refund_no" varchar(64) NOT NULL,
	"state" varchar(20) DEFAULT 'queued' NOT NULL,
	"account" varchar(64),
	"trade_no" varchar(64),
	"out_trade_no" varchar(64),
	"total" numeric(18, 2),
	"gateway_refund_no" varchar(64),
	"attempts" integer DEFAULT 0 NOT NULL,
	"next_attempt_at" timestamp with time zone DEFAULT now(),
	"message_due_at" timestamp with time zone,
	"swept_at" timestamp with time zone,
	"sent_at" timestamp with time zone,
	"send_ended_at" timestamp with time zone,
	"asked_at" timestamp with time zone,
	"last_error_code" varchar(64),
	"last_error" varchar(255),
	"ask_only" boolean DEFAULT false NOT NULL,
	"resent" boolean DEFAULT false NOT NULL,
	"attention" varchar(64),
	"attention_at" timestamp with time zone,
	"succeeded_at" timestamp with time zone,
	"origin" varchar(10) DEFAULT 'api' NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now(),
	CONSTRAINT "gateway_refunds_out_refund_no_unique" UNIQUE("out_refund_no"),
	CONSTRAINT "gateway_refunds_state_check" CHECK ("gateway_refunds"."state" IN ('queued', 'sending', 'accepted', 'unknown', 'refused', 'blocked', 'succeeded', 'failed')),
	CONSTRAINT "gateway_refunds_origin_check" CHECK ("gateway_refunds"."origin" IN ('api', 'gateway')),
	CONSTRAINT "gateway_refunds_next_attempt_at_check" CHECK (("gateway_refunds"."next_attempt_at" IS NULL) = ("gateway_refunds"."state" IN ('succeeded', 'failed')))
);
--> statement-breakpoint
CREATE TABLE "gateway_requests" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"refund_id" bigint NOT NULL,
	"operation" varchar(20) NOT NULL,
	"attempt" integer NOT NULL,
	"started_at" timestamp with time zone NOT NULL,
	"ended_at" timestamp with time zone NOT NULL,
	"http_status" integer,
	"outcome" varchar(20) NOT NULL,
	"code" varchar(64),
	"gateway_request_id" varchar(128)
);
--> statement-breakpoint
ALTER TABLE "payment_refund_events" ADD COLUMN "cause" varchar(20);--> statement-breakpoint
ALTER TABLE "gateway_payments" ADD CONSTRAINT "gateway_payments_payment_id_payments_id_fk" FOREIGN KEY ("payment_id") REFERENCES "public"."payments"("id") ON DELETE cascade ON UPDATE cascade;--> statement-breakpoint
ALTER TABLE "gateway_refunds" ADD CONSTRAINT "gateway_refunds_refund_id_payment_refunds_id_fk" FOREIGN KEY ("refund_id") REFERENCES "public"."payment_refunds"("id") ON DELETE cascade ON UPDATE cascade;--> statement-breakpoint
ALTER TABLE "gateway_requests" ADD CONSTRAINT "gateway_requests_refund_id_gateway_refunds_refund_id_fk" FOREIGN KEY ("refund_id") REFERENCES "public"."gateway_refunds"("refund_id") ON DELETE cascade ON UPDATE cascade;--> statement-breakpoint
CREATE INDEX "idx_gateway_notifications_payment_id" ON "gateway_notifications" USING btree ("payment_id");--> statement-breakpoint
CREATE INDEX "idx_gateway_notifications_received_at" ON "gateway_notifications" USING btree ("received_at") WHERE "gateway_notifications"."body" IS NOT NULL;--> statement-breakpoint
CREATE INDEX "idx_gateway_payments_out_trade_no" ON "gateway_payments" USING btree ("out_trade_no");--> statement-breakpoint
CREATE INDEX "idx_gateway_payments_attention" ON "gateway_payments" USING btree ("attention_at","payment_id") WHERE "gateway_payments"."attention" IS NOT NULL;--> statement-breakpoint
CREATE INDEX "idx_gateway_refunds_next_attempt_at" ON "gateway_refunds" USING btree ("next_attempt_at") WHERE "gateway_refunds"."state" NOT IN ('succeeded', 'failed');--> statement-breakpoint
CREATE INDEX "idx_gateway_refunds_attention" ON "gateway_refunds" USING btree ("attention_at","refund_id") WHERE "gateway_refunds"."attention" IS NOT NULL;--> statement-breakpoint
CREATE INDEX "idx_gateway_requests_refund_id" ON "gateway_requests" USING btree ("refund_id");