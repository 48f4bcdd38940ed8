-- Keeps payment_monthly_totals equal to the sum of the merged rows (writer 0) of payment_daily_totals.
--
-- Only the daily merge and recount_payments() write merged rows, one at a time, so nobody waits here;
-- a transaction that writes payments adds to rows of its own pid, which these triggers pass over.

-- The month of a day, and the first month that begins on this day or after it.
CREATE FUNCTION payment_month(day date) RETURNS date
  LANGUAGE sql IMMUTABLE PARALLEL SAFE
  RETURN date_trunc('month', day::timestamp)::date;
--> statement-breakpoint
CREATE FUNCTION payment_month_from(day date) RETURNS date
  LANGUAGE sql IMMUTABLE PARALLEL SAFE
  RETURN (payment_month(day - 1) + interval '1 month')::date;
--> statement-breakpoint

-- SECURITY DEFINER: a role that merges the daily totals need not be able to write these otherwise.
CREATE FUNCTION follow_daily_totals() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    TRUNCATE payment_monthly_totals;
    RETURN NULL;
  END IF;
  INSERT INTO payment_monthly_totals AS kept (month, status, payment_method, payments, amount)
  SELECT payment_month(day), status, payment_method, sum(sign * payments), sum(sign * amount)
  FROM (SELECT 1 AS sign, NEW.* UNION ALL SELECT -1, OLD.*) AS change
  WHERE writer = 0
  GROUP BY 1, 2, 3
  ON CONFLICT (month, status, payment_method) DO UPDATE
  SET payments = kept.payments + excluded.payments, amount = kept.amount + excluded.amount;
  RETURN NULL;
END $$;
--> statement-breakpoint
CREATE TRIGGER payment_daily_totals_inserted AFTER INSERT ON payment_daily_totals
  FOR EACH ROW WHEN (NEW.writer = 0) EXECUTE FUNCTION follow_daily_totals();
--> statement-breakpoint
CREATE TRIGGER payment_daily_totals_updated AFTER UPDATE ON payment_daily_totals
  FOR EACH ROW WHEN (OLD.writer = 0 OR NEW.writer = 0) EXECUTE FUNCTION follow_daily_totals();
--> statement-breakpoint
CREATE TRIGGER payment_daily_totals_deleted AFTER DELETE ON payment_daily_totals
  FOR EACH ROW WHEN (OLD.writer = 0) EXECUTE FUNCTION follow_daily_totals();
--> statement-breakpoint
CREATE TRIGGER payment_daily_totals_truncated AFTER TRUNCATE ON payment_daily_totals
  FOR EACH STATEMENT EXECUTE FUNCTION follow_daily_totals();
--> statement-breakpoint

-- As before, and the months with the days: also where they had come to differ.
CREATE OR REPLACE FUNCTION recount_payments() RETURNS void
  LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  -- The count below must be able to see what was committed while we waited for the lock.
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE 'recount_payments() needs READ COMMITTED' USING ERRCODE = 'invalid_transaction_state';
  END IF;
  LOCK TABLE payments, payment_daily_totals IN SHARE ROW EXCLUSIVE MODE;
  DELETE FROM payment_daily_totals;
  DELETE FROM payment_monthly_totals;
  INSERT INTO payment_daily_totals (day, status, payment_method, writer, payments, amount)
  SELECT payment_day(created_at), status, payment_method, 0, count(*), sum(amount)
  FROM payments
  GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
END $$;
--> statement-breakpoint

-- The triggers above have locked the daily totals against other writers.
INSERT INTO payment_monthly_totals (month, status, payment_method, payments, amount)
SELECT payment_month(day), status, payment_method, sum(payments), sum(amount)
FROM payment_daily_totals WHERE writer = 0
GROUP BY 1, 2, 3;
