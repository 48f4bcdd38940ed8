-- The parts of statements that are the same for every request. PL/pgSQL keeps the plans of its queries for
-- the session, and Neon's proxy leaves them there when it resets a session, unlike prepared statements.
-- To parse and to plan these queries for each request would take several times as long as to execute them
-- (bench/statements.ts).
--
-- The functions have the rights of their caller. During a deployment the old Worker calls them too, so a
-- migration may replace one only to add fields. For any other change it makes a function of another name.

-- A time as clients read it: RFC 3339, UTC, milliseconds. The same as utc() in src/time.ts.
CREATE FUNCTION rfc3339(at timestamptz) RETURNS text
  LANGUAGE sql STABLE PARALLEL SAFE
  RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
--> statement-breakpoint

-- The Payments of a page (src/payments/payment.ts), in the order of the list, each with its created_at in
-- microseconds since the epoch.
CREATE FUNCTION payment_rows(ids bigint[]) RETURNS json
  LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN (
    SELECT coalesce(json_agg(json_build_object(
      'id', id::text,
      'order_no', (SELECT order_no FROM orders WHERE orders.id = order_id),
      'payment_no', payment_no,
      'payment_method', payments.payment_method,
      'amount', payments.amount::text,
      'status', payments.status,
      'payment_time', rfc3339(payment_time),
      'created_at', (extract(epoch FROM payments.created_at) * 1000000)::bigint::text,
      'refunded_amount', coalesce(succeeded, 0.00)::text,
      'refundable_amount',
        (CASE WHEN payments.status = 1 THEN greatest(payments.amount - coalesce(reserved, 0), 0.00) ELSE 0.00 END)::text
    ) ORDER BY payments.created_at DESC, id DESC), '[]')
    FROM payments LEFT JOIN payment_refund_totals ON payment_id = id
    WHERE id = ANY (ids)
  );
END $$;
--> statement-breakpoint

-- The totals of all time, of some statuses, methods and refund states, or of all where NULL is given:
-- how many payments, the sum of their amounts, and how many rows of totals were read that are not merged.
CREATE FUNCTION payment_totals(
  of_statuses integer[], of_methods text[], of_states integer[],
  OUT total bigint, OUT total_amount numeric, OUT unmerged bigint
) LANGUAGE plpgsql STABLE AS $$
BEGIN
  SELECT coalesce(sum(counted.payments), 0), coalesce(sum(counted.amount), 0), coalesce(sum(counted.of_a_writer), 0)
  INTO total, total_amount, unmerged
  FROM (
    SELECT status, payment_method, refund_state, payments, amount, 0 AS of_a_writer FROM payment_monthly_totals
    UNION ALL
    SELECT status, payment_method, refund_state, payments, amount, 1 FROM payment_daily_totals WHERE writer <> 0
  ) AS counted
  WHERE (of_statuses IS NULL OR status = ANY (of_statuses))
    AND (of_methods IS NULL OR payment_method = ANY (of_methods))
    AND (of_states IS NULL OR refund_state = ANY (of_states));
END $$;
--> statement-breakpoint

-- The list as everybody sees it first: page 1 without a filter, and one payment more if another page follows.
CREATE FUNCTION payment_first_page(
  page_size integer, OUT total text, OUT total_amount text, OUT unmerged text, OUT page json
) LANGUAGE plpgsql STABLE AS $$
BEGIN
  SELECT coalesce(sum(counted.payments), 0), coalesce(sum(counted.amount), 0)::numeric(38, 2), coalesce(sum(counted.of_a_writer), 0)
  INTO total, total_amount, unmerged
  FROM (
    SELECT payments, amount, 0 AS of_a_writer FROM payment_monthly_totals
    UNION ALL
    SELECT payments, amount, 1 FROM payment_daily_totals WHERE writer <> 0
  ) AS counted;
  -- A kept plan does not know page_size. With the LIMIT of the largest page it is one by the index.
  page := payment_rows(ARRAY(
    SELECT id FROM (SELECT id FROM payments ORDER BY created_at DESC, id DESC LIMIT 101) AS newest LIMIT page_size + 1
  ));
END $$;
--> statement-breakpoint

-- What GET /payments/:id shows of a payment (PaymentDetail in src/payments/detail.ts); null where there is none.
-- It shows the newest 200 callbacks and refunds, and the newest 50 events of a refund, oldest first.
-- The ids of callbacks and refunds are found first, and alone: an index holds them in this order. For
-- whole rows PostgreSQL would rather sort all that a payment has, since it plans for payments with a few.
CREATE FUNCTION payment_detail(wanted bigint) RETURNS json
  LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN (
    SELECT json_build_object(
      'id', payments.id::text,
      'order_id', order_id::text,
      'order_no', order_no,
      'payment_no', payment_no,
      'payment_method', payment_method,
      'amount', amount::text,
      'status', status,
      'payment_time', rfc3339(payment_time),
      'refund_time', rfc3339(refund_time),
      'created_at', rfc3339(created_at),
      'updated_at', rfc3339(updated_at),
      'refunded_amount', all_refunds.succeeded::text,
      'refundable_amount',
        (CASE WHEN status = 1 THEN greatest(amount - all_refunds.taken, 0) ELSE 0 END)::numeric(18, 2)::text,
      'callbacks_total', (SELECT count(*) FROM payment_callbacks WHERE payment_id = wanted),
      'callbacks', (
        SELECT coalesce(json_agg(json_build_object(
          'id', id::text,
          'callback_no', callback_no,
          'status', status,
          'created_at', rfc3339(created_at)
        ) ORDER BY created_at, id), '[]')
        FROM payment_callbacks WHERE id = ANY (ARRAY(
          SELECT id FROM payment_callbacks
          WHERE payment_id = wanted
          ORDER BY created_at DESC, id DESC LIMIT 200
        ))
      ),
      'refunds_total', all_refunds.total,
      'refunds', (
        SELECT coalesce(json_agg(json_build_object(
          'id', id::text,
          'refund_no', refund_no,
          'amount', amount::text,
          'reason', reason,
          'status', status,
          'created_at', rfc3339(created_at),
          'events_total', (SELECT count(*) FROM payment_refund_events WHERE refund_id = refund.id),
          'events', (
            SELECT coalesce(json_agg(json_build_object(
              'actor', actor,
              'from_status', from_status,
              'to_status', to_status,
              'request_id', request_id,
              'reason', reason,
              'created_at', rfc3339(created_at)
            ) ORDER BY created_at, id), '[]')
            FROM (
              SELECT * FROM payment_refund_events
              WHERE refund_id = refund.id
              ORDER BY created_at DESC, id DESC LIMIT 50
            ) AS event
          )
        ) ORDER BY created_at, id), '[]')
        FROM payment_refunds AS refund WHERE id = ANY (ARRAY(
          SELECT id FROM payment_refunds
          WHERE payment_id = wanted
          ORDER BY created_at DESC, id DESC LIMIT 200
        ))
      )
    )
    FROM payments
    LEFT JOIN orders ON orders.id = order_id
    CROSS JOIN LATERAL (
      SELECT count(*) AS total, coalesce(sum(amount) FILTER (WHERE status <> 2), 0) AS taken,
        coalesce(sum(amount) FILTER (WHERE status = 1), 0.00) AS succeeded
      FROM payment_refunds WHERE payment_id = wanted
    ) AS all_refunds
    WHERE payments.id = wanted
  );
END $$;
