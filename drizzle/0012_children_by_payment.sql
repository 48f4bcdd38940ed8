-- On large tables, both are made beforehand with CREATE INDEX CONCURRENTLY.
CREATE INDEX IF NOT EXISTS "idx_payment_callbacks_payment_id_created_at_id" ON "payment_callbacks" USING btree ("payment_id","created_at" DESC NULLS FIRST,"id" DESC NULLS FIRST);--> statement-breakpoint
CREATE INDEX IF NOT EXISTS "idx_payment_refunds_payment_id_created_at_id" ON "payment_refunds" USING btree ("payment_id","created_at" DESC NULLS FIRST,"id" DESC NULLS FIRST);
