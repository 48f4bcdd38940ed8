-- On a large table, made beforehand with CREATE INDEX CONCURRENTLY.
CREATE INDEX IF NOT EXISTS "idx_payments_payment_method_created_at_id_status" ON "payments" USING btree ("payment_method","created_at" DESC NULLS FIRST,"id" DESC NULLS FIRST,"status");--> statement-breakpoint
DROP INDEX "idx_payments_payment_method_created_at_id";
