-- Keeps refund_daily_totals equal to what payment_refunds holds, in the very transaction that changes it. Each
-- transaction adds to rows of its own backend, as in payment_daily_totals (0004), so no writer waits for another.
--
-- Writers wait until this migration has counted the refunds that are there. Those that come after it meet the
-- new function.
LOCK TABLE payment_refunds IN SHARE ROW EXCLUSIVE MODE;
--> statement-breakpoint

-- As in 0011, with the totals of the refunds' days. In the same function, because another trigger would read the
-- changed rows once more. The guard goes first: what it refuses has not been counted.
CREATE OR REPLACE FUNCTION follow_refunds() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  CASE TG_OP
    WHEN 'INSERT' THEN
      PERFORM refresh_refund_totals(payment_id)
      FROM (SELECT DISTINCT payment_id FROM new_refunds ORDER BY payment_id) AS changed;

      INSERT INTO refund_daily_totals AS kept (day, status, writer, refunds, amount)
      SELECT payment_day(created_at), status, pg_backend_pid(), count(*), sum(amount)
      FROM new_refunds
      GROUP BY 1, 2 ORDER BY 1, 2
      ON CONFLICT (day, status, writer) DO UPDATE
      SET refunds = kept.refunds + excluded.refunds, amount = kept.amount + excluded.amount;

    WHEN 'UPDATE' THEN
      PERFORM refresh_refund_totals(payment_id)
      FROM (
        SELECT DISTINCT payment_id FROM (
          (SELECT id, payment_id, amount, status FROM new_refunds EXCEPT SELECT id, payment_id, amount, status FROM old_refunds)
          UNION ALL
          (SELECT id, payment_id, amount, status FROM old_refunds EXCEPT SELECT id, payment_id, amount, status FROM new_refunds)
        ) AS change
        ORDER BY payment_id
      ) AS changed;

      -- An update that moves nothing, such as of updated_at alone, writes nothing here.
      INSERT INTO refund_daily_totals AS kept (day, status, writer, refunds, amount)
      SELECT payment_day(created_at), status, pg_backend_pid(), sum(sign), sum(sign * amount)
      FROM (
        SELECT 1 AS sign, created_at, status, amount FROM new_refunds
        UNION ALL
        SELECT -1, created_at, status, amount FROM old_refunds
      ) AS change
      GROUP BY 1, 2 HAVING sum(sign) <> 0 OR sum(sign * amount) <> 0 ORDER BY 1, 2
      ON CONFLICT (day, status, writer) DO UPDATE
      SET refunds = kept.refunds + excluded.refunds, amount = kept.amount + excluded.amount;

    WHEN 'DELETE' THEN
      PERFORM refresh_refund_totals(payment_id)
      FROM (SELECT DISTINCT payment_id FROM old_refunds ORDER BY payment_id) AS changed;

      INSERT INTO refund_daily_totals AS kept (day, status, writer, refunds, amount)
      SELECT payment_day(created_at), status, pg_backend_pid(), -count(*), -sum(amount)
      FROM old_refunds
      GROUP BY 1, 2 ORDER BY 1, 2
      ON CONFLICT (day, status, writer) DO UPDATE
      SET refunds = kept.refunds + excluded.refunds, amount = kept.amount + excluded.amount;

    WHEN 'TRUNCATE' THEN
      UPDATE payment_refund_totals SET reserved = 0, succeeded = 0;
      -- Not DELETE, for the reasons of follow_payments().
      TRUNCATE refund_daily_totals;
  END CASE;
  RETURN NULL;
END $$;
--> statement-breakpoint

-- As before, with the refunds of each day: sums and counts everything anew. Afterwards the totals are right, also where tables were filled with
-- their triggers off. Writers of payments and refunds wait meanwhile; readers see the old totals until
-- the commit.
CREATE OR REPLACE FUNCTION recount_payments() RETURNS void
  LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  -- The count below must be able to see what was committed while we waited for the lock.
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE 'recount_payments() needs READ COMMITTED' USING ERRCODE = 'invalid_transaction_state';
  END IF;
  LOCK TABLE payment_refunds, payments, payment_refund_totals, payment_daily_totals, refund_daily_totals IN SHARE ROW EXCLUSIVE MODE;
  DELETE FROM payment_refund_totals;
  INSERT INTO payment_refund_totals (payment_id, reserved, succeeded, amount, status, payment_method, created_at)
  SELECT id, coalesce(reserved, 0), coalesce(succeeded, 0), amount, status, payment_method, created_at
  FROM payments LEFT JOIN (
    SELECT payment_id, coalesce(sum(amount) FILTER (WHERE status <> 2), 0) AS reserved,
      coalesce(sum(amount) FILTER (WHERE status = 1), 0) AS succeeded
    FROM payment_refunds GROUP BY payment_id
  ) AS refunds ON payment_id = id
  WHERE payment_id IS NOT NULL OR status = 3;

  DELETE FROM payment_daily_totals;
  DELETE FROM payment_monthly_totals;
  INSERT INTO payment_daily_totals (day, status, payment_method, refund_state, writer, payments, amount)
  SELECT payment_day(payments.created_at), payments.status, payments.payment_method, coalesce(refund_state, 0), 0,
    count(*), sum(payments.amount)
  FROM payments LEFT JOIN payment_refund_totals ON payment_id = id
  GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4;

  DELETE FROM refund_daily_totals;
  INSERT INTO refund_daily_totals (day, status, writer, refunds, amount)
  SELECT payment_day(created_at), status, 0, count(*), sum(amount)
  FROM payment_refunds
  GROUP BY 1, 2 ORDER BY 1, 2;
END $$;
--> statement-breakpoint

-- As for payment_daily_totals (0004): a row is written again by every transaction of its writer and day.
ALTER TABLE refund_daily_totals SET (fillfactor = 50);
--> statement-breakpoint

-- What is already there.
INSERT INTO refund_daily_totals (day, status, writer, refunds, amount)
SELECT payment_day(created_at), status, 0, count(*), sum(amount)
FROM payment_refunds
GROUP BY 1, 2 ORDER BY 1, 2;
