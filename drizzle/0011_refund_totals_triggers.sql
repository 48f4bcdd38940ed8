-- Guards what has been paid against every writer, keeps payment_refund_totals, and moves a payment between
-- 支付成功 and 已退款.
--
-- The refunds of a payment change under its row lock, whoever changes them. So the sums below see every
-- refund that was committed before, and no other can come in between. At REPEATABLE READ a sum could be
-- older than that; then the row of payment_refund_totals is newer than the snapshot, and its update fails
-- with serialization_failure.
--
-- SECURITY DEFINER: a role that may write refunds need not be able to write payments or the totals.
CREATE FUNCTION refresh_refund_totals(of_payment bigint) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  payment payments;
  before payment_refund_totals;
  sums record;
BEGIN
  SELECT * INTO payment FROM payments WHERE id = of_payment FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  SELECT coalesce(sum(amount) FILTER (WHERE status <> 2), 0) AS reserved,
    coalesce(sum(amount) FILTER (WHERE status = 1), 0) AS succeeded
  INTO sums FROM payment_refunds WHERE payment_id = of_payment;
  SELECT * INTO before FROM payment_refund_totals WHERE payment_id = of_payment;

  -- Whatever the payment's status is: others may load refunds before they set it. A payment that was
  -- over-refunded before this guard existed may become less so, step by step.
  IF sums.reserved - payment.amount > greatest(before.reserved - before.amount, 0) THEN
    RAISE 'the refunds of payment % that have not failed would exceed its amount', of_payment
      USING ERRCODE = 'check_violation', TABLE = 'payment_refunds', CONSTRAINT = 'payment_refunds_within_amount';
  END IF;

  -- Derived from the state and not from the change, so it is right whatever has happened before.
  IF payment.status = 1 AND sums.succeeded >= payment.amount AND sums.succeeded > 0 THEN
    payment.status := 3;
    UPDATE payments SET status = 3, refund_time = now(), updated_at = now() WHERE id = of_payment;
  -- A payment that others marked 已退款 stays so; one that our refunds had made 已退款 comes back.
  ELSIF payment.status = 3 AND sums.succeeded < payment.amount AND before.refund_state = 2 THEN
    payment.status := 1;
    UPDATE payments SET status = 1, refund_time = NULL, updated_at = now() WHERE id = of_payment;
  END IF;

  INSERT INTO payment_refund_totals AS kept (payment_id, reserved, succeeded, amount, status, payment_method, created_at)
  VALUES (of_payment, sums.reserved, sums.succeeded, payment.amount, payment.status, payment.payment_method, payment.created_at)
  ON CONFLICT (payment_id) DO UPDATE
  SET reserved = excluded.reserved, succeeded = excluded.succeeded, amount = excluded.amount,
    status = excluded.status, payment_method = excluded.payment_method, created_at = excluded.created_at
  WHERE (kept.reserved, kept.succeeded, kept.amount, kept.status, kept.payment_method, kept.created_at)
    <> (excluded.reserved, excluded.succeeded, excluded.amount, excluded.status, excluded.payment_method, excluded.created_at);
END $$;
--> statement-breakpoint

-- 0 → 1 and 0 → 2 settle a refund. 1 → 2 and 2 → 1 correct it, with the reason on record. Nothing else moves it.
CREATE FUNCTION guard_refund_moves() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  -- The newest event of this transaction has to be that of this very move.
  IF NEW.status = 0 OR NOT coalesce((
    SELECT from_status = OLD.status AND to_status = NEW.status AND reason IS NOT NULL
    FROM payment_refund_events WHERE refund_id = NEW.id AND created_at = now()
    ORDER BY id DESC LIMIT 1
  ), false) THEN
    RAISE 'refund % cannot go from status % to %', OLD.id, OLD.status, NEW.status
      USING ERRCODE = 'check_violation', TABLE = 'payment_refunds', CONSTRAINT = 'payment_refunds_legal_move',
        HINT = 'A correction needs a row with its reason in payment_refund_events, of the same transaction.';
  END IF;
  RETURN NULL;
END $$;
--> statement-breakpoint
CREATE TRIGGER payment_refunds_moved AFTER UPDATE OF status ON payment_refunds
  FOR EACH ROW WHEN (OLD.status <> 0 AND OLD.status <> NEW.status) EXECUTE FUNCTION guard_refund_moves();
--> statement-breakpoint

-- Once for each payment of a statement, in the order of their ids. SQL of others that changes a refund without
-- locking its payment first can deadlock with ours, which is then tried again.
CREATE FUNCTION follow_refunds() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  CASE TG_OP
    WHEN 'INSERT' THEN
      PERFORM refresh_refund_totals(payment_id)
      FROM (SELECT DISTINCT payment_id FROM new_refunds ORDER BY payment_id) AS changed;

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

    WHEN 'DELETE' THEN
      PERFORM refresh_refund_totals(payment_id)
      FROM (SELECT DISTINCT payment_id FROM old_refunds ORDER BY payment_id) AS changed;

    WHEN 'TRUNCATE' THEN
      UPDATE payment_refund_totals SET reserved = 0, succeeded = 0;
  END CASE;
  RETURN NULL;
END $$;
--> statement-breakpoint
CREATE TRIGGER payment_refunds_inserted AFTER INSERT ON payment_refunds
  REFERENCING NEW TABLE AS new_refunds
  FOR EACH STATEMENT EXECUTE FUNCTION follow_refunds();
--> statement-breakpoint
CREATE TRIGGER payment_refunds_updated AFTER UPDATE ON payment_refunds
  REFERENCING OLD TABLE AS old_refunds NEW TABLE AS new_refunds
  FOR EACH STATEMENT EXECUTE FUNCTION follow_refunds();
--> statement-breakpoint
CREATE TRIGGER payment_refunds_deleted AFTER DELETE ON payment_refunds
  REFERENCING OLD TABLE AS old_refunds
  FOR EACH STATEMENT EXECUTE FUNCTION follow_refunds();
--> statement-breakpoint
CREATE TRIGGER payment_refunds_truncated AFTER TRUNCATE ON payment_refunds
  FOR EACH STATEMENT EXECUTE FUNCTION follow_refunds();
--> statement-breakpoint

CREATE FUNCTION follow_refunded_payment() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  -- Most payments have no refund and so no row to follow. A snapshot that is older than this statement may not
  -- show the row; then the refresh meets it all the same, and fails with serialization_failure.
  IF NEW.status = 3 OR current_setting('transaction_isolation') <> 'read committed' OR EXISTS (SELECT FROM payment_refund_totals WHERE payment_id = NEW.id) THEN
    PERFORM refresh_refund_totals(NEW.id);
  END IF;
  RETURN NULL;
END $$;
--> statement-breakpoint
CREATE TRIGGER payments_refunded_inserted AFTER INSERT ON payments
  FOR EACH ROW WHEN (NEW.status = 3) EXECUTE FUNCTION follow_refunded_payment();
--> statement-breakpoint
CREATE TRIGGER payments_refunded_updated AFTER UPDATE ON payments
  FOR EACH ROW WHEN ((OLD.amount, OLD.status, OLD.payment_method, OLD.created_at)
    <> (NEW.amount, NEW.status, NEW.payment_method, NEW.created_at))
  EXECUTE FUNCTION follow_refunded_payment();
--> statement-breakpoint

-- The triggers on payments count every payment in refund state 0. These move those that have another
-- state, as the row of payment_refund_totals repeats the payment's day, status, method and amount.
CREATE FUNCTION follow_refund_totals() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  CASE TG_OP
    WHEN 'INSERT' THEN
      INSERT INTO payment_daily_totals AS kept (day, status, payment_method, refund_state, writer, payments, amount)
      SELECT payment_day(created_at), status, payment_method, state, pg_backend_pid(), sum(sign), sum(sign * amount)
      FROM new_totals, LATERAL (VALUES (1, refund_state), (-1, 0)) AS move (sign, state)
      WHERE refund_state <> 0
      GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
      ON CONFLICT (day, status, payment_method, refund_state, writer) DO UPDATE
      SET payments = kept.payments + excluded.payments, amount = kept.amount + excluded.amount;

    WHEN 'UPDATE' THEN
      INSERT INTO payment_daily_totals AS kept (day, status, payment_method, refund_state, writer, payments, amount)
      SELECT payment_day(created_at), status, payment_method, state, pg_backend_pid(), sum(sign), sum(sign * amount)
      FROM (
        SELECT created_at, status, payment_method, amount, sign, state
        FROM new_totals, LATERAL (VALUES (1, refund_state), (-1, 0)) AS move (sign, state)
        WHERE refund_state <> 0
        UNION ALL
        SELECT created_at, status, payment_method, amount, sign, state
        FROM old_totals, LATERAL (VALUES (-1, refund_state), (1, 0)) AS move (sign, state)
        WHERE refund_state <> 0
      ) AS change
      GROUP BY 1, 2, 3, 4 HAVING sum(sign) <> 0 OR sum(sign * amount) <> 0 ORDER BY 1, 2, 3, 4
      ON CONFLICT (day, status, payment_method, refund_state, writer) DO UPDATE
      SET payments = kept.payments + excluded.payments, amount = kept.amount + excluded.amount;

    WHEN 'DELETE' THEN
      INSERT INTO payment_daily_totals AS kept (day, status, payment_method, refund_state, writer, payments, amount)
      SELECT payment_day(created_at), status, payment_method, state, pg_backend_pid(), sum(sign), sum(sign * amount)
      FROM old_totals, LATERAL (VALUES (-1, refund_state), (1, 0)) AS move (sign, state)
      WHERE refund_state <> 0
      GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
      ON CONFLICT (day, status, payment_method, refund_state, writer) DO UPDATE
      SET payments = kept.payments + excluded.payments, amount = kept.amount + excluded.amount;

    WHEN 'TRUNCATE' THEN
      IF EXISTS (SELECT FROM payments) THEN
        RAISE 'payment_refund_totals follows payments and payment_refunds: truncate those'
          USING ERRCODE = 'restrict_violation';
      END IF;
  END CASE;
  RETURN NULL;
END $$;
--> statement-breakpoint
CREATE TRIGGER payment_refund_totals_inserted AFTER INSERT ON payment_refund_totals
  REFERENCING NEW TABLE AS new_totals
  FOR EACH STATEMENT EXECUTE FUNCTION follow_refund_totals();
--> statement-breakpoint
CREATE TRIGGER payment_refund_totals_updated AFTER UPDATE ON payment_refund_totals
  REFERENCING OLD TABLE AS old_totals NEW TABLE AS new_totals
  FOR EACH STATEMENT EXECUTE FUNCTION follow_refund_totals();
--> statement-breakpoint
CREATE TRIGGER payment_refund_totals_deleted AFTER DELETE ON payment_refund_totals
  REFERENCING OLD TABLE AS old_totals
  FOR EACH STATEMENT EXECUTE FUNCTION follow_refund_totals();
--> statement-breakpoint
CREATE TRIGGER payment_refund_totals_truncated AFTER TRUNCATE ON payment_refund_totals
  FOR EACH STATEMENT EXECUTE FUNCTION follow_refund_totals();
--> statement-breakpoint

-- As before, with the refund state: payments are counted in state 0.
CREATE OR REPLACE FUNCTION follow_payments() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  CASE TG_OP
    WHEN 'INSERT' THEN
      INSERT INTO payment_daily_totals AS kept (day, status, payment_method, refund_state, writer, payments, amount)
      SELECT payment_day(created_at), status, payment_method, 0, pg_backend_pid(), count(*), sum(amount)
      FROM new_payments
      GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
      ON CONFLICT (day, status, payment_method, refund_state, writer) DO UPDATE
      SET payments = kept.payments + excluded.payments, amount = kept.amount + excluded.amount;

    WHEN 'UPDATE' THEN
      -- An update that moves nothing, such as of updated_at alone, writes nothing here.
      INSERT INTO payment_daily_totals AS kept (day, status, payment_method, refund_state, writer, payments, amount)
      SELECT payment_day(created_at), status, payment_method, 0, pg_backend_pid(), sum(sign), sum(sign * amount)
      FROM (
        SELECT 1 AS sign, created_at, status, payment_method, amount FROM new_payments
        UNION ALL
        SELECT -1, created_at, status, payment_method, amount FROM old_payments
      ) AS change
      GROUP BY 1, 2, 3 HAVING sum(sign) <> 0 OR sum(sign * amount) <> 0 ORDER BY 1, 2, 3
      ON CONFLICT (day, status, payment_method, refund_state, writer) DO UPDATE
      SET payments = kept.payments + excluded.payments, amount = kept.amount + excluded.amount;

    WHEN 'DELETE' THEN
      INSERT INTO payment_daily_totals AS kept (day, status, payment_method, refund_state, writer, payments, amount)
      SELECT payment_day(created_at), status, payment_method, 0, pg_backend_pid(), -count(*), -sum(amount)
      FROM old_payments
      GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
      ON CONFLICT (day, status, payment_method, refund_state, writer) DO UPDATE
      SET payments = kept.payments + excluded.payments, amount = kept.amount + excluded.amount;

    WHEN 'TRUNCATE' THEN
      -- Not DELETE: like the truncation of payments it counts for older snapshots too, and it waits
      -- for a merge, whose new rows a DELETE might not see.
      TRUNCATE payment_daily_totals;
  END CASE;
  RETURN NULL;
END $$;
--> statement-breakpoint

CREATE OR REPLACE FUNCTION follow_daily_totals() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    TRUNCATE payment_monthly_totals;
    RETURN NULL;
  END IF;
  INSERT INTO payment_monthly_totals AS kept (month, status, payment_method, refund_state, payments, amount)
  SELECT payment_month(day), status, payment_method, refund_state, sum(sign * payments), sum(sign * amount)
  FROM (SELECT 1 AS sign, NEW.* UNION ALL SELECT -1, OLD.*) AS change
  WHERE writer = 0
  GROUP BY 1, 2, 3, 4
  ON CONFLICT (month, status, payment_method, refund_state) DO UPDATE
  SET payments = kept.payments + excluded.payments, amount = kept.amount + excluded.amount;
  RETURN NULL;
END $$;
--> statement-breakpoint

-- Sums and counts everything anew. Afterwards the totals are right, also where tables were filled with
-- their triggers off. Writers of payments and refunds wait meanwhile; readers see the old totals until
-- the commit.
CREATE OR REPLACE FUNCTION recount_payments() RETURNS void
  LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  -- The count below must be able to see what was committed while we waited for the lock.
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE 'recount_payments() needs READ COMMITTED' USING ERRCODE = 'invalid_transaction_state';
  END IF;
  LOCK TABLE payment_refunds, payments, payment_refund_totals, payment_daily_totals IN SHARE ROW EXCLUSIVE MODE;
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
END $$;
--> statement-breakpoint

-- They run with their owner's rights. Who may execute a trigger function matters when a trigger is
-- created, not when it fires.
REVOKE EXECUTE ON FUNCTION refresh_refund_totals(bigint), guard_refund_moves(), follow_refunds(),
  follow_refunded_payment(), follow_refund_totals() FROM PUBLIC;
--> statement-breakpoint

-- What is already there. The rows below move the totals by the trigger on their table. A payment whose
-- successful refunds add up to its amount, and which nobody moved, becomes 已退款.
INSERT INTO payment_refund_totals (payment_id, reserved, succeeded, amount, status, payment_method, created_at)
SELECT id, coalesce(reserved, 0), coalesce(succeeded, 0), amount, status, payment_method, created_at
FROM payments LEFT JOIN (
  SELECT payment_id, coalesce(sum(amount) FILTER (WHERE status <> 2), 0) AS reserved,
    coalesce(sum(amount) FILTER (WHERE status = 1), 0) AS succeeded
  FROM payment_refunds GROUP BY payment_id
) AS refunds ON payment_id = id
WHERE payment_id IS NOT NULL OR status = 3;
--> statement-breakpoint
SELECT refresh_refund_totals(payment_id) FROM payment_refund_totals WHERE status = 1 AND refund_state = 2;
