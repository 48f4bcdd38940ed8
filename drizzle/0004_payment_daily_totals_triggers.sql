-- Keeps payment_daily_totals equal to what payments holds, in the very transaction that changes it,
-- without making one writer wait for another.
--
-- Each transaction adds to rows of its own: `writer` is the pid of its backend. Pids of live backends
-- differ and a backend runs one transaction at a time, so two transactions in progress never meet in
-- a row, whatever days they touch in whatever order. A pid that comes back, after a restart of the
-- server too, goes on adding where the earlier one left off. (A prepared transaction outlives its
-- backend: who gets that pid next waits until it is committed, and nothing is miscounted.)
-- A row by itself may be negative: one writer inserted what another deletes.

-- The business day of an instant, and the first instant of a day. Nothing else knows the zone.
CREATE FUNCTION payment_day(instant timestamptz) RETURNS date
  LANGUAGE sql IMMUTABLE PARALLEL SAFE
  RETURN (instant AT TIME ZONE 'Asia/Shanghai')::date;
--> statement-breakpoint
CREATE FUNCTION payment_day_start(day date) RETURNS timestamptz
  LANGUAGE sql IMMUTABLE PARALLEL SAFE
  RETURN day::timestamp AT TIME ZONE 'Asia/Shanghai';
--> statement-breakpoint
-- The first business day that begins at this instant or after it.
CREATE FUNCTION payment_day_from(instant timestamptz) RETURNS date
  LANGUAGE sql IMMUTABLE PARALLEL SAFE
  RETURN payment_day(instant) + (payment_day_start(payment_day(instant)) < instant)::int;
--> statement-breakpoint

-- SECURITY DEFINER: a role that may write payments need not be able to write the totals otherwise.
CREATE FUNCTION follow_payments() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  CASE TG_OP
    WHEN 'INSERT' THEN
      INSERT INTO payment_daily_totals AS kept (day, status, payment_method, writer, payments, amount)
      SELECT payment_day(created_at), status, payment_method, pg_backend_pid(), count(*), sum(amount)
      FROM new_payments
      GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
      ON CONFLICT (day, status, payment_method, writer) DO UPDATE
      SET payments = kept.payments + excluded.payments, amount = kept.amount + excluded.amount;

    WHEN 'UPDATE' THEN
      -- An update that moves nothing, such as of updated_at alone, writes nothing here.
      INSERT INTO payment_daily_totals AS kept (day, status, payment_method, writer, payments, amount)
      SELECT payment_day(created_at), status, payment_method, pg_backend_pid(), sum(sign), sum(sign * amount)
      FROM (
        SELECT 1 AS sign, created_at, status, payment_method, amount FROM new_payments
        UNION ALL
        SELECT -1, created_at, status, payment_method, amount FROM old_payments
      ) AS change
      GROUP BY 1, 2, 3 HAVING sum(sign) <> 0 OR sum(sign * amount) <> 0 ORDER BY 1, 2, 3
      ON CONFLICT (day, status, payment_method, writer) DO UPDATE
      SET payments = kept.payments + excluded.payments, amount = kept.amount + excluded.amount;

    WHEN 'DELETE' THEN
      INSERT INTO payment_daily_totals AS kept (day, status, payment_method, writer, payments, amount)
      SELECT payment_day(created_at), status, payment_method, pg_backend_pid(), -count(*), -sum(amount)
      FROM old_payments
      GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
      ON CONFLICT (day, status, payment_method, writer) DO UPDATE
      SET payments = kept.payments + excluded.payments, amount = kept.amount + excluded.amount;

    WHEN 'TRUNCATE' THEN
      -- Not DELETE: like the truncation of payments it counts for older snapshots too, and it waits
      -- for a merge, whose new rows a DELETE might not see.
      TRUNCATE payment_daily_totals;
  END CASE;
  RETURN NULL;
END $$;
--> statement-breakpoint

-- Counts everything anew. Afterwards the totals are right, also where payments was filled with its
-- triggers off. Writers of payments wait meanwhile; readers see the old totals until the commit.
CREATE FUNCTION recount_payments() RETURNS void
  LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  -- The count below must be able to see what was committed while we waited for the lock.
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE 'recount_payments() needs READ COMMITTED' USING ERRCODE = 'invalid_transaction_state';
  END IF;
  LOCK TABLE payments, payment_daily_totals IN SHARE ROW EXCLUSIVE MODE;
  DELETE FROM payment_daily_totals;
  INSERT INTO payment_daily_totals (day, status, payment_method, writer, payments, amount)
  SELECT payment_day(created_at), status, payment_method, 0, count(*), sum(amount)
  FROM payments
  GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
END $$;
--> statement-breakpoint

-- Statement-level, so that a bulk load of a day is one addition. PostgreSQL allows no column list
-- beside transition tables; the function looks at what has changed itself.
CREATE TRIGGER payments_inserted AFTER INSERT ON payments
  REFERENCING NEW TABLE AS new_payments
  FOR EACH STATEMENT EXECUTE FUNCTION follow_payments();
--> statement-breakpoint
CREATE TRIGGER payments_updated AFTER UPDATE ON payments
  REFERENCING OLD TABLE AS old_payments NEW TABLE AS new_payments
  FOR EACH STATEMENT EXECUTE FUNCTION follow_payments();
--> statement-breakpoint
CREATE TRIGGER payments_deleted AFTER DELETE ON payments
  REFERENCING OLD TABLE AS old_payments
  FOR EACH STATEMENT EXECUTE FUNCTION follow_payments();
--> statement-breakpoint
CREATE TRIGGER payments_truncated AFTER TRUNCATE ON payments
  FOR EACH STATEMENT EXECUTE FUNCTION follow_payments();
--> statement-breakpoint

-- A row is written again by every transaction of its writer and day. With room left on its page, the
-- new version goes beside the old one, the primary key stays as it is, and the old ones are removed
-- without a vacuum.
ALTER TABLE payment_daily_totals SET (fillfactor = 50);
--> statement-breakpoint

SELECT recount_payments();
