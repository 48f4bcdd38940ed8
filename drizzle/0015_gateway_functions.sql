-- The rules of refunds at gateways: one function claims a refund, one settles it, whatever brought the
-- news, and two take the news in. Each takes the payment's row lock first, so they stand in line with
-- everything else that changes the payment's refunds. A statement of a VOLATILE PL/pgSQL function takes its
-- own snapshot at READ COMMITTED, so what is read after the lock is what others have committed.
--
-- SECURITY DEFINER: the Worker's role can call these, and can write neither a gateway's state nor a
-- payment's status by itself.
--
-- An older Worker goes on calling them during a deployment. A migration may replace one as long as what the
-- older Worker passes and reads stays right; for any other change it makes a function of another name.

INSERT INTO gateway_identity (id) VALUES (left(md5(gen_random_uuid()::text), 8));
--> statement-breakpoint

-- The clock of these functions. Tests put another in its place, and so let weeks pass.
CREATE FUNCTION gateway_clock() RETURNS timestamptz
  LANGUAGE sql VOLATILE
  RETURN clock_timestamp();
--> statement-breakpoint

-- The gateway of a refund as clients read it (RefundGateway in src/refunds/refund.ts).
CREATE FUNCTION refund_gateway_json(given gateway_refunds) RETURNS json
  LANGUAGE sql STABLE PARALLEL SAFE
  RETURN json_build_object(
    'name', given.gateway,
    'state', given.state,
    'refund_no', given.gateway_refund_no,
    'out_refund_no', given.out_refund_no,
    'attempts', given.attempts,
    'last_error_code', given.last_error_code,
    'last_error', given.last_error,
    'next_attempt_at', rfc3339(given.next_attempt_at),
    'attention', given.attention
  );
--> statement-breakpoint

-- The same by the refund's id; null for a refund that is settled by hand. With its owner's rights, since an older
-- Worker, which was not granted the table, calls it by payment_detail().
CREATE FUNCTION refund_gateway(of_refund bigint) RETURNS json
  LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  RETURN (SELECT refund_gateway_json(gateway_refunds) FROM gateway_refunds WHERE refund_id = of_refund);
END $$;
--> statement-breakpoint

-- What a gateway has may end by the gateway's word only: SQL of others, or an older Worker, must not free its
-- amount. A correction afterwards answers what was pointed out about the refund.
CREATE FUNCTION guard_gateway_refunds() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  IF OLD.status <> 0 THEN
    UPDATE gateway_refunds SET attention = NULL, attention_at = NULL, updated_at = now()
    WHERE refund_id = NEW.id AND attention IS NOT NULL;
  ELSIF EXISTS (
    SELECT FROM gateway_refunds
    WHERE refund_id = NEW.id AND state <> CASE NEW.status WHEN 1 THEN 'succeeded' ELSE 'failed' END
  ) THEN
    RAISE 'refund % is at a gateway, which has to settle it', NEW.id
      USING ERRCODE = 'check_violation', TABLE = 'payment_refunds', CONSTRAINT = 'payment_refunds_settled_by_gateway';
  END IF;
  RETURN NULL;
END $$;
--> statement-breakpoint
CREATE TRIGGER payment_refunds_at_gateway AFTER UPDATE OF status ON payment_refunds
  FOR EACH ROW WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION guard_gateway_refunds();
--> statement-breakpoint

-- A gateway refunds a number once, for the amount with which it was sent first.
CREATE FUNCTION guard_gateway_amounts() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM gateway_refunds WHERE refund_id = OLD.id) THEN
    RAISE 'refund % is at a gateway, so its amount and its payment stay as they are', OLD.id
      USING ERRCODE = 'check_violation', TABLE = 'payment_refunds', CONSTRAINT = 'payment_refunds_fixed_at_gateway';
  END IF;
  RETURN NULL;
END $$;
--> statement-breakpoint
CREATE TRIGGER payment_refunds_fixed_at_gateway AFTER UPDATE OF amount, payment_id ON payment_refunds
  FOR EACH ROW WHEN ((OLD.amount, OLD.payment_id) <> (NEW.amount, NEW.payment_id))
  EXECUTE FUNCTION guard_gateway_amounts();
--> statement-breakpoint

-- When the last send of a refund was over, as far as is known: its recorded end, or the end of its lease.
CREATE FUNCTION gateway_send_over(given gateway_refunds) RETURNS timestamptz
  LANGUAGE sql IMMUTABLE PARALLEL SAFE
  RETURN CASE
    WHEN given.sent_at IS NULL THEN '-infinity'
    WHEN given.send_ended_at >= given.sent_at THEN given.send_ended_at
    ELSE given.sent_at + interval '2 minutes'
  END;
--> statement-breakpoint

-- What a gateway needs to know of a refund (GatewayRefund in src/gateways/gateway.ts).
CREATE FUNCTION gateway_refund_request(of_refund bigint) RETURNS json
  LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
BEGIN
  RETURN (
    SELECT json_build_object(
      'outRefundNo', out_refund_no,
      'outTradeNo', coalesce(gateway_refunds.out_trade_no, gateway_payments.out_trade_no, payment_no),
      'tradeNo', gateway_refunds.trade_no,
      'amount', payment_refunds.amount::text,
      'total', coalesce(gateway_refunds.total, payments.amount)::text,
      'reason', reason
    )
    FROM gateway_refunds
    JOIN payment_refunds ON payment_refunds.id = refund_id
    JOIN payments ON payments.id = payment_refunds.payment_id
    LEFT JOIN gateway_payments ON gateway_payments.payment_id = payments.id
    WHERE refund_id = of_refund
  );
END $$;
--> statement-breakpoint

-- Claims a refund for what is to be done next, and says what that is: `send`, `query`, `wait` until it is due,
-- or `none` where nothing is left to do. Null where there is no such refund. With `wait` comes `due_at` if a message is
-- to be sent for that moment, and none is on its way.
--   configured: of each gateway that has its keys: account, gap and proof in seconds (GatewayKind).
--   ask: a person wants to know now. Then the gateway is asked, though nothing is due, but not more often than
--   every ten seconds, and nothing is sent.
--   resend: an earlier answer of this function may have been lost, and with it a message.
-- Whoever is told to send has a lease of two minutes. When it runs out, the outcome is unknown, and the gateway
-- is asked before the same refund is sent again.
CREATE FUNCTION claim_gateway_refund(number text, configured jsonb, ask boolean, resend boolean, wait_for_lock text) RETURNS json
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  refund payment_refunds;
  work gateway_refunds;
  rules jsonb;
  sent_by text;
  request jsonb;
  moment timestamptz;
  due timestamptz;
  sends boolean;
  waits boolean := true;
  problem text;
  pause timestamptz;
BEGIN
  PERFORM set_config('lock_timeout', wait_for_lock, true);
  SELECT * INTO refund FROM payment_refunds WHERE refund_no = number;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  PERFORM FROM payments WHERE id = refund.payment_id FOR UPDATE;
  SELECT * INTO work FROM gateway_refunds WHERE refund_id = refund.id;
  IF NOT FOUND OR (work.state IN ('succeeded', 'failed') AND NOT (ask AND work.attention IS NOT NULL)) THEN
    RETURN json_build_object('operation', 'none');
  END IF;
  moment := gateway_clock();
  rules := configured -> work.gateway;
  sends := NOT ask AND (work.state = 'queued' OR work.state = 'blocked' AND NOT work.ask_only);
  due := work.next_attempt_at;
  sent_by := coalesce(work.account, (SELECT kept.account FROM gateway_payments AS kept WHERE payment_id = refund.payment_id));
  CASE
    -- Another account's "no such refund" would prove nothing, so nobody asks it.
    WHEN rules IS NULL OR sent_by <> rules ->> 'account' THEN
      problem := CASE WHEN rules IS NULL THEN 'NOT_CONFIGURED' ELSE 'ACCOUNT_CHANGED' END;
      due := CASE WHEN due > moment THEN due ELSE moment + interval '1 hour' END;
      -- What waits for a person already keeps its reason.
      UPDATE gateway_refunds
      SET attention = problem, attention_at = CASE WHEN attention = problem THEN attention_at ELSE moment END
      WHERE refund_id = refund.id AND NOT (state IN ('succeeded', 'failed') OR state = 'blocked' AND ask_only);
    WHEN ask THEN
      waits := work.sent_at IS NULL OR greatest(work.asked_at, gateway_send_over(work)) > moment - interval '10 seconds';
    WHEN due > moment THEN
      NULL;
    WHEN sends THEN
      -- One send for a payment at a time, with the gateway's distance after the end of the one before.
      SELECT max(gateway_send_over(sibling)) + (rules ->> 'gap')::float8 * interval '1 second' INTO due
      FROM gateway_refunds AS sibling
      WHERE refund_id IN (SELECT id FROM payment_refunds WHERE payment_id = refund.payment_id);
      waits := due > moment;
    ELSE
      due := greatest(due, CASE WHEN work.state IN ('unknown', 'sending', 'refused') THEN gateway_send_over(work) + interval '10 seconds' END);
      waits := due > moment;
  END CASE;

  IF NOT waits THEN
    -- After a pause one request a minute goes through, until one succeeds.
    SELECT paused_until INTO pause FROM gateway_health WHERE gateway = work.gateway AND paused_until IS NOT NULL;
    IF FOUND THEN
      UPDATE gateway_health SET paused_until = moment + interval '1 minute', updated_at = now()
      WHERE gateway = work.gateway AND paused_until <= moment;
      waits := NOT FOUND;
      -- Not all at once when the pause is over.
      due := greatest(pause, moment + interval '1 minute') + random() * interval '5 minutes';
    END IF;
  END IF;

  IF waits THEN
    -- A message for that moment may be on its way. In the last seconds before it, this is that message: the queue's
    -- clock may be ahead of the database's.
    IF NOT ask THEN
      UPDATE gateway_refunds SET next_attempt_at = due, message_due_at = due
      WHERE refund_id = refund.id
        AND (next_attempt_at <> due OR message_due_at IS DISTINCT FROM due OR due < moment + interval '5 seconds');
    END IF;
    -- One that the gateway has accepted is polled, and swept where the polls got lost.
    RETURN json_build_object('operation', 'wait',
      'due_at', CASE WHEN NOT ask AND work.state <> 'accepted' AND (FOUND OR resend) THEN extract(epoch FROM due) * 1000 END);
  END IF;

  request := gateway_refund_request(refund.id);
  UPDATE gateway_refunds
  SET state = CASE WHEN sends THEN 'sending' WHEN state = 'sending' THEN 'unknown' ELSE state END,
    attempts = attempts + sends::int,
    sent_at = CASE WHEN sends THEN moment ELSE sent_at END,
    asked_at = CASE WHEN sends THEN asked_at ELSE moment END,
    account = coalesce(work.account, rules ->> 'account'),
    out_trade_no = coalesce(work.out_trade_no, request ->> 'outTradeNo'),
    total = coalesce(work.total, (request ->> 'total')::numeric),
    trade_no = CASE attempts WHEN 0 THEN (SELECT trade_no FROM gateway_payments WHERE payment_id = refund.payment_id) ELSE trade_no END,
    next_attempt_at = CASE
      WHEN sends THEN moment + interval '2 minutes'
      WHEN ask OR next_attempt_at IS NULL THEN next_attempt_at
      ELSE moment + interval '1 minute'
    END,
    -- The message for this moment has come.
    message_due_at = CASE WHEN ask THEN message_due_at END,
    attention = CASE WHEN attention IN ('NOT_CONFIGURED', 'ACCOUNT_CHANGED') THEN NULL ELSE attention END,
    updated_at = now()
  WHERE refund_id = refund.id RETURNING * INTO work;
  RETURN json_build_object(
    'operation', CASE WHEN sends THEN 'send' ELSE 'query' END,
    'gateway', work.gateway,
    'attempt', work.attempts,
    'request', request || jsonb_build_object('tradeNo', work.trade_no),
    -- If the gateway says that a refused refund is not there, it fails, so everything else that may show that its
    -- money moved is asked too. No other refund of the payment may be what shows.
    'decisive', work.state = 'refused' AND NOT EXISTS (
      SELECT FROM payment_refunds WHERE payment_id = refund.payment_id AND id <> refund.id AND status <> 2
    )
  );
END $$;
--> statement-breakpoint

-- The one function that settles a refund of a gateway: takes what the gateway says about it (News in
-- src/gateways/gateway.ts), makes the one legal move, or changes nothing but what is pointed out to a person.
-- The caller holds the payment's row lock.
--   cause: answer (of a send), query, callback.
--   attempt, began, http_status: of the request that brought the news, and its HTTP status; null for a callback.
-- Returns whether anything changed.
CREATE FUNCTION settle_gateway_refund(
  of_refund bigint, news jsonb, explanation text, cause text, attempt integer, began timestamptz, http_status integer,
  rules jsonb, in_request text
) RETURNS boolean
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  moment CONSTANT timestamptz := gateway_clock();
  kind CONSTANT text := news ->> 'kind';
  error CONSTANT text := news ->> 'code';
  proof CONSTANT interval := (rules ->> 'proof')::float8 * interval '1 second';
  before gateway_refunds;
  work gateway_refunds;
  of_payment bigint;
  status_before integer;
  age interval;
  pause interval;
  is_late boolean;
BEGIN
  SELECT * INTO before FROM gateway_refunds WHERE refund_id = of_refund;
  work := before;
  SELECT payment_id, status INTO of_payment, status_before FROM payment_refunds WHERE id = of_refund;
  is_late := moment - work.created_at > interval '1 hour';
  IF cause = 'answer' AND work.attempts = attempt THEN
    work.send_ended_at := moment;
  END IF;
  -- From one send to the next.
  pause := least(interval '15 seconds' * power(2, least(work.attempts, 10) - 1), interval '1 hour');
  -- How long nothing has changed: the distance between two queries grows with it.
  age := moment - coalesce(work.attention_at, work.sent_at, work.created_at);
  work.gateway_refund_no := coalesce(work.gateway_refund_no, left(news ->> 'gatewayRefundNo', 64));

  IF work.state IN ('succeeded', 'failed') THEN
    -- What has ended stays so. What contradicts it, as it is after all corrections, is for a person: the amount may have
    -- been promised again. An accepted one counts if it is what the gateway says now, or if nothing had closed the refund.
    CASE
      WHEN status_before = 2 AND (kind IN ('succeeded', 'abnormal')
          OR kind = 'accepted' AND (cause = 'query' OR work.last_error_code IS DISTINCT FROM 'CLOSED')) THEN
        work.attention := 'PAID_AFTER_FAILED';
      WHEN status_before = 1 AND kind IN ('closed', 'abnormal') THEN
        work.attention := 'CONTRADICTION';
      WHEN cause = 'query' AND (status_before = 1 AND kind = 'succeeded' OR status_before = 2 AND kind = 'closed') THEN
        work.attention := NULL;
      ELSE
        NULL;
    END CASE;

  ELSIF kind = 'succeeded' THEN
    work.state := 'succeeded';
    work.last_error_code := NULL;
    work.succeeded_at := coalesce((news ->> 'at')::timestamptz, moment);

  ELSIF kind = 'closed' THEN
    work.state := 'failed';
    work.last_error_code := error;

  ELSIF kind = 'accepted' THEN
    work.next_attempt_at := moment + CASE work.state WHEN 'accepted' THEN least(greatest(age, interval '1 hour'), interval '1 day') ELSE interval '1 hour' END;
    work.state := 'accepted';
    work.attention := CASE work.attention WHEN 'OLD' THEN 'OLD' END;
    work.last_error_code := NULL;

  ELSIF kind = 'abnormal' THEN
    work.state := 'blocked';
    work.ask_only := true;
    work.attention := 'ABNORMAL';
    work.last_error_code := error;
    work.next_attempt_at := moment + CASE WHEN age < interval '1 day' THEN interval '1 hour' ELSE interval '1 day' END;

  -- From here on the news is no last word. The answer to a send counts only while that send is the last one:
  -- a sender whose lease ran out cannot undo what happened afterwards.
  ELSIF cause = 'answer' AND (work.state <> 'sending' OR work.attempts <> attempt) THEN
    NULL;

  ELSIF kind = 'refused' AND cause = 'answer' THEN
    work.state := 'refused';
    work.last_error_code := error;
    work.next_attempt_at := moment + proof;

  -- It is not being asked about: it waits to be sent.
  ELSIF cause <> 'answer' AND (work.state IN ('queued', 'sending') OR work.state = 'blocked' AND NOT work.ask_only) THEN
    NULL;

  -- A refusal that every query would get says nothing about this refund.
  ELSIF kind = 'blocked' AND (cause = 'answer' OR news ->> 'where' = 'refund') THEN
    work.state := 'blocked';
    -- What waits for a person already keeps its reason.
    work.attention := CASE WHEN work.ask_only THEN coalesce(work.attention, error) ELSE error END;
    work.ask_only := cause <> 'answer' OR coalesce((news ->> 'askOnly')::boolean, false);
    work.last_error_code := error;
    work.next_attempt_at := moment + CASE WHEN age < interval '1 day' THEN interval '1 hour' ELSE interval '1 day' END;

  ELSIF kind = 'later' AND cause = 'answer' THEN
    work.state := 'queued';
    work.last_error_code := error;
    work.attention := CASE WHEN is_late THEN coalesce(work.attention, error) END;
    work.next_attempt_at := moment + greatest(pause, interval '1 minute');

  ELSIF kind = 'missing' THEN
    CASE
      -- A refund that was accepted and is gone, or whose money waits, has not failed.
      WHEN work.state IN ('accepted', 'blocked') THEN
        work.attention := CASE WHEN work.ask_only THEN coalesce(work.attention, 'MISSING') ELSE 'MISSING' END;
        work.next_attempt_at := moment + least(greatest(age, interval '1 hour'), interval '1 day');
      -- Too early to prove anything: it may become visible yet. A query from before the last send proves nothing at all.
      WHEN work.state IN ('unknown', 'refused')
          AND (attempt = work.attempts AND gateway_send_over(work) + proof <= began) IS NOT TRUE THEN
        work.next_attempt_at := gateway_send_over(work) + proof;
      WHEN work.state = 'unknown' THEN
        work.state := 'queued';
        work.next_attempt_at := moment + CASE WHEN work.attempts > 1 THEN pause ELSE interval '0' END;
      -- Where this code comes for one payment after the other, this program is wrong, and not each of the refunds.
      WHEN work.state = 'refused' AND work.last_error_code = 'INVALID_REQUEST'
          AND EXISTS (SELECT FROM gateway_health WHERE gateway = work.gateway AND refusals >= 5) THEN
        work.attention := work.last_error_code;
        work.next_attempt_at := moment + interval '1 hour';
      -- The code may have meant something that passes.
      WHEN work.state = 'refused' AND work.last_error_code = 'INVALID_REQUEST' AND NOT work.resent THEN
        work.state := 'queued';
        work.resent := true;
        work.next_attempt_at := greatest(moment, gateway_send_over(work) + interval '90 seconds');
      WHEN work.state = 'refused' THEN
        work.state := 'failed';
      ELSE
        NULL;
    END CASE;

  ELSE
    -- Unknown, from wherever: the money may be on its way. It is asked about with growing distance.
    IF work.state = 'sending' THEN
      work.state := 'unknown';
      work.attention := CASE WHEN work.attention IN ('OLD', 'UNKNOWN') THEN work.attention END;
    END IF;
    -- Whatever else is said of a refusal: its own code decides what follows from it.
    IF work.state <> 'refused' THEN
      work.last_error_code := error;
    END IF;
    -- Neither passes by itself: a key that is not configured, and a refund of others under this number.
    IF error IN ('UNKNOWN_SERIAL', 'MISMATCH') THEN
      work.attention := error;
    ELSIF is_late AND work.state = 'unknown' THEN
      work.attention := coalesce(work.attention, 'UNKNOWN');
    END IF;
    work.next_attempt_at := moment + CASE
      WHEN http_status = 429 THEN interval '1 minute'
      ELSE least(greatest(age / 2, interval '15 seconds'), interval '1 hour')
    END;
  END IF;

  IF work.state IN ('succeeded', 'failed') THEN
    work.next_attempt_at := NULL;
    IF before.state NOT IN ('succeeded', 'failed') THEN
      work.attention := NULL;
    END IF;
  END IF;
  IF work.last_error_code IS DISTINCT FROM before.last_error_code THEN
    work.last_error := CASE WHEN work.last_error_code IS NOT NULL THEN explanation END;
  END IF;
  IF work.attention IS DISTINCT FROM before.attention THEN
    work.attention_at := CASE WHEN work.attention IS NOT NULL THEN moment END;
  END IF;
  UPDATE gateway_refunds
  SET state = work.state, gateway_refund_no = work.gateway_refund_no, next_attempt_at = work.next_attempt_at,
    send_ended_at = work.send_ended_at, last_error_code = work.last_error_code, last_error = work.last_error,
    ask_only = work.ask_only, resent = work.resent, attention = work.attention, attention_at = work.attention_at,
    succeeded_at = work.succeeded_at, updated_at = now()
  WHERE refund_id = of_refund;

  -- The trigger on payment_refunds lets this move pass because the state above says the same.
  IF work.state <> before.state AND work.state IN ('succeeded', 'failed') THEN
    UPDATE payment_refunds SET status = CASE work.state WHEN 'succeeded' THEN 1 ELSE 2 END, updated_at = now()
    WHERE id = of_refund AND status = 0;
    INSERT INTO payment_refund_events (refund_id, actor, from_status, to_status, request_id, cause)
    VALUES (of_refund, before.gateway, 0, CASE work.state WHEN 'succeeded' THEN 1 ELSE 2 END, in_request, cause);
  END IF;

  IF kind = 'blocked' AND news ->> 'where' = 'gateway' THEN
    PERFORM pause_gateway(before.gateway, error, moment + interval '10 minutes');
  ELSIF kind = 'refused' AND error = 'INVALID_REQUEST' THEN
    INSERT INTO gateway_health AS health (gateway, refusals, refused_payment_id)
    VALUES (before.gateway, 1, of_payment)
    ON CONFLICT (gateway) DO UPDATE
    SET refusals = health.refusals + (health.refused_payment_id IS DISTINCT FROM of_payment)::int,
      refused_payment_id = of_payment, updated_at = now();
    PERFORM pause_gateway(before.gateway, error, moment + interval '1 hour')
    FROM gateway_health WHERE gateway = before.gateway AND refusals >= 5;
  ELSIF cause <> 'callback' AND kind IN ('succeeded', 'accepted', 'closed', 'abnormal') THEN
    UPDATE gateway_health SET paused_until = NULL, code = NULL, refusals = 0, refused_payment_id = NULL, updated_at = now()
    WHERE gateway = before.gateway AND (paused_until IS NOT NULL OR refusals > 0);
  -- The keys are right again. Whether the requests are is another question.
  ELSIF kind = 'missing' THEN
    UPDATE gateway_health SET paused_until = NULL, code = NULL, updated_at = now()
    WHERE gateway = before.gateway AND paused_until IS NOT NULL AND refusals < 5;
  END IF;
  RETURN work IS DISTINCT FROM before;
END $$;
--> statement-breakpoint

-- Claims nothing of this gateway for a while, neither to send nor to ask: every request would be refused alike.
CREATE FUNCTION pause_gateway(name text, because text, until timestamptz) RETURNS void
  LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  INSERT INTO gateway_health AS health (gateway, paused_until, code) VALUES (name, until, because)
  ON CONFLICT (gateway) DO UPDATE
  SET paused_until = greatest(health.paused_until, excluded.paused_until), code = excluded.code, updated_at = now();
$$;
--> statement-breakpoint

-- What whoever has brought news does next (src/gateways/outbox.ts). `due_at`, in milliseconds since the epoch: sends a
-- message for then. It is null if one is on its way. `poll`: begins to poll a refund that has just been accepted.
-- resend: an earlier answer may have been lost, and with it a message.
CREATE FUNCTION gateway_follow_up(of_refund bigint, state_before text, resend boolean) RETURNS json
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  work gateway_refunds;
  has_message boolean;
BEGIN
  SELECT * INTO work FROM gateway_refunds WHERE refund_id = of_refund;
  has_message := work.next_attempt_at IS NULL OR work.state = 'accepted'
    OR work.message_due_at IS NOT DISTINCT FROM work.next_attempt_at AND NOT resend;
  UPDATE gateway_refunds SET message_due_at = next_attempt_at WHERE refund_id = of_refund AND NOT has_message;
  RETURN json_build_object(
    'state', work.state,
    'due_at', CASE WHEN NOT has_message THEN extract(epoch FROM work.next_attempt_at) * 1000 END,
    'poll', CASE WHEN work.state = 'accepted' AND (state_before <> 'accepted' OR resend) THEN json_build_object(
      'gateway', work.gateway, 'account', work.account,
      'request', gateway_refund_request(of_refund)::jsonb || '{"reason": null}') END
  );
END $$;
--> statement-breakpoint

-- Records what came of a call of a gateway. `call`: operation (send, query, poll, abnormal), attempt, began, ended
-- (milliseconds since the epoch), httpStatus, gatewayRequestId. Null where there is no such refund.
CREATE FUNCTION record_gateway_answer(
  number text, call jsonb, news jsonb, explanation text, configured jsonb, in_request text, resend boolean,
  wait_for_lock text
) RETURNS json
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  refund payment_refunds;
  state_before text;
  took CONSTANT interval := ((call ->> 'ended')::float8 - (call ->> 'began')::float8) * interval '1 millisecond';
  began CONSTANT timestamptz := gateway_clock() - took;
  name text;
BEGIN
  PERFORM set_config('lock_timeout', wait_for_lock, true);
  SELECT * INTO refund FROM payment_refunds WHERE refund_no = number;
  PERFORM FROM payments WHERE id = refund.payment_id FOR UPDATE;
  SELECT state, gateway INTO state_before, name FROM gateway_refunds WHERE refund_id = refund.id;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  INSERT INTO gateway_requests (refund_id, operation, attempt, started_at, ended_at, http_status, outcome, code, gateway_request_id)
  VALUES (refund.id, call ->> 'operation', (call ->> 'attempt')::int, began, began + took, (call ->> 'httpStatus')::int,
    news ->> 'kind', news ->> 'code', left(call ->> 'gatewayRequestId', 128));
  -- Somebody tried to complete an abnormal refund, and could not: its money waits as before.
  IF call ->> 'operation' = 'abnormal' AND news ->> 'kind' IN ('refused', 'blocked', 'later') THEN
    news := jsonb_build_object('kind', 'unknown', 'code', news -> 'code');
  END IF;
  PERFORM settle_gateway_refund(refund.id, news, explanation, CASE call ->> 'operation' WHEN 'send' THEN 'answer' ELSE 'query' END,
    (call ->> 'attempt')::int, began, (call ->> 'httpStatus')::int, configured -> name, in_request);
  RETURN gateway_follow_up(refund.id, state_before, resend);
END $$;
--> statement-breakpoint

-- Takes a callback in (Notification in src/gateways/gateway.ts), once, and does what it says. `again`: what it
-- is about is not there yet, so the gateway has to bring it again. Whatever it says is looked at each time it
-- comes, because the answer to the first time may have been lost.
CREATE FUNCTION take_gateway_notification(
  name text, of_account text, given jsonb, raw bytea, explanation text, configured jsonb, in_request text, wait_for_lock text
) RETURNS json
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  inbox gateway_notifications;
  asked CONSTANT jsonb := nullif(given -> 'refund', 'null');
  told CONSTANT jsonb := nullif(given -> 'payment', 'null');
  number CONSTANT text := coalesce(told ->> 'outTradeNo', asked ->> 'outTradeNo');
  work gateway_refunds;
  refund payment_refunds;
  payment payments;
  known jsonb;
  outcome text := 'nothing_to_do';
  again boolean := false;
  follow_up json;
  paid boolean;
BEGIN
  PERFORM set_config('lock_timeout', wait_for_lock, true);
  INSERT INTO gateway_notifications AS kept (gateway, notification_key, event, serial, signature, body, body_sha256, out_trade_no, out_refund_no, received_at)
  VALUES (name, given ->> 'key', left(given ->> 'event', 64), left(given ->> 'serial', 64), given -> 'signature', raw,
    encode(sha256(raw), 'hex'), left(number, 64), left(asked ->> 'outRefundNo', 64), gateway_clock())
  ON CONFLICT (gateway, notification_key) DO UPDATE SET deliveries = kept.deliveries + 1
  RETURNING * INTO inbox;

  IF asked IS NOT NULL THEN
    SELECT * INTO work FROM gateway_refunds WHERE out_refund_no = asked ->> 'outRefundNo' AND gateway = name;
    SELECT * INTO refund FROM payment_refunds WHERE id = work.refund_id;
  END IF;
  SELECT payments.* INTO payment FROM payments
  WHERE payments.id = coalesce(refund.payment_id, (
    SELECT payment_id FROM gateway_payments JOIN payments AS one ON one.id = payment_id
    WHERE out_trade_no = number AND one.payment_method = name
    ORDER BY payment_id LIMIT 1
  ), (
    SELECT one.id FROM payments AS one LEFT JOIN gateway_payments ON payment_id = one.id
    WHERE one.payment_no = number AND one.payment_method = name AND out_trade_no IS NULL
  ))
  FOR UPDATE;

  -- It may have been faster than our own commit. Where nothing appears within a minute, it is not ours.
  IF payment.id IS NULL AND number IS NOT NULL OR asked IS NOT NULL AND refund.id IS NULL THEN
    again := inbox.received_at > gateway_clock() - interval '1 minute';
    outcome := 'unknown_number';
  END IF;

  IF refund.id IS NOT NULL AND payment.id IS NOT NULL THEN
    SELECT * INTO work FROM gateway_refunds WHERE refund_id = refund.id;
    known := gateway_refund_request(refund.id);
    IF coalesce(asked ->> 'outTradeNo', known ->> 'outTradeNo') <> known ->> 'outTradeNo'
        OR coalesce(asked ->> 'amount', known ->> 'amount') <> known ->> 'amount'
        OR coalesce(asked ->> 'total', known ->> 'total') <> known ->> 'total'
        OR work.account <> of_account THEN
      -- Somebody else's refund with our number.
      outcome := 'other_refund';
      UPDATE gateway_refunds SET attention = 'MISMATCH', attention_at = gateway_clock(), updated_at = now()
      WHERE refund_id = refund.id AND attention IS NULL AND next_attempt_at IS NOT NULL;
    ELSIF asked -> 'news' = 'null' THEN
      -- It proves nothing, but the gateway is worth asking.
      outcome := 'to_be_asked';
      UPDATE gateway_refunds SET next_attempt_at = gateway_clock(), message_due_at = NULL, updated_at = now()
      WHERE refund_id = refund.id AND (state IN ('unknown', 'accepted', 'refused') OR state = 'blocked' AND ask_only);
      follow_up := json_build_object('state', work.state, 'due_at',
        CASE WHEN FOUND THEN extract(epoch FROM greatest(gateway_clock(), gateway_send_over(work) + interval '10 seconds')) * 1000 END);
    ELSE
      outcome := CASE
        WHEN settle_gateway_refund(refund.id, asked -> 'news', explanation, 'callback', NULL, NULL, NULL, configured -> name, in_request) THEN 'settled'
        ELSE 'no_change'
      END;
      follow_up := gateway_follow_up(refund.id, work.state, inbox.deliveries > 1);
    END IF;
  END IF;

  -- A refund of another trade may have our number. What it says of that trade is not about this payment.
  IF told IS NOT NULL AND number = coalesce((SELECT out_trade_no FROM gateway_payments WHERE payment_id = payment.id), payment.payment_no) THEN
    paid := told ->> 'state' = 'paid';
    IF (told ->> 'amount')::numeric <> payment.amount OR told ->> 'currency' <> 'CNY' THEN
      outcome := 'other_amount';
      PERFORM note_gateway_payment(payment.id, NULL, NULL, 'AMOUNT');
    -- A payment that was given up is not paid again by a callback of before, nor when the gateway ends the order.
    ELSIF paid AND (payment.status = 0 OR payment.status = 2 AND inbox.processed_at IS NULL AND inbox.event NOT LIKE '%TRADE_FINISHED') THEN
      outcome := 'paid';
      UPDATE payments SET status = 1, payment_time = coalesce((told ->> 'at')::timestamptz, now()), updated_at = now() WHERE id = payment.id;
      -- Paid after it had been given up: the goods may have gone to somebody else.
      PERFORM note_gateway_payment(payment.id, told ->> 'tradeNo', of_account, CASE payment.status WHEN 2 THEN 'PAID_AFTER_CLOSED' END);
    ELSIF paid THEN
      outcome := CASE outcome WHEN 'nothing_to_do' THEN 'no_change' ELSE outcome END;
      PERFORM note_gateway_payment(payment.id, told ->> 'tradeNo', of_account, NULL);
    ELSIF payment.status = 0 THEN
      outcome := 'closed';
      UPDATE payments SET status = 2, updated_at = now() WHERE id = payment.id;
    ELSE
      outcome := 'no_change';
    END IF;
  END IF;

  -- What people see of it. A longer key is shown as its hash.
  IF payment.id IS NOT NULL THEN
    INSERT INTO payment_callbacks (payment_id, callback_no, status)
    VALUES (payment.id, CASE WHEN length(inbox.notification_key) <= 100 THEN inbox.notification_key ELSE encode(sha256(convert_to(inbox.notification_key, 'UTF8')), 'hex') END,
      CASE
        WHEN asked -> 'news' ->> 'kind' = 'succeeded' OR told ->> 'state' = 'paid' THEN 1
        WHEN asked -> 'news' ->> 'kind' = 'closed' OR told ->> 'state' = 'closed' THEN 2
        ELSE 0
      END)
    ON CONFLICT (callback_no) DO NOTHING;
  END IF;

  UPDATE gateway_notifications
  SET payment_id = payment.id, result = outcome, processed_at = CASE WHEN NOT again THEN coalesce(processed_at, now()) END
  WHERE id = inbox.id;
  RETURN json_build_object('result', outcome, 'again', again, 'payment_id', payment.id::text,
    'refund_no', refund.refund_no, 'follow_up', follow_up);
END $$;
--> statement-breakpoint

-- Keeps what a gateway calls a payment, and points the payment out to a person where `because` says why.
CREATE FUNCTION note_gateway_payment(of_payment bigint, number text, of_account text, because text) RETURNS void
  LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  INSERT INTO gateway_payments AS kept (payment_id, trade_no, account, attention, attention_at)
  VALUES (of_payment, left(number, 64), of_account, because, CASE WHEN because IS NOT NULL THEN now() END)
  ON CONFLICT (payment_id) DO UPDATE
  SET trade_no = coalesce(kept.trade_no, excluded.trade_no), account = coalesce(kept.account, excluded.account),
    attention = coalesce(excluded.attention, nullif(kept.attention, 'AMOUNT')),
    attention_at = CASE WHEN excluded.attention IS NULL OR excluded.attention IS NOT DISTINCT FROM kept.attention THEN kept.attention_at ELSE now() END,
    updated_at = now()
  WHERE (kept.trade_no, kept.account, kept.attention)
    IS DISTINCT FROM (coalesce(kept.trade_no, excluded.trade_no), coalesce(kept.account, excluded.account), coalesce(excluded.attention, nullif(kept.attention, 'AMOUNT')));
$$;
--> statement-breakpoint

-- A blocked refund that is to be sent again at once; and one whose outcome is not known is asked about at
-- once. Returns how many it moved: none where it is in another state, or where its money waits for a person.
CREATE FUNCTION retry_gateway_refund(of_refund bigint, of_payment bigint, wait_for_lock text) RETURNS integer
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  moved integer;
BEGIN
  PERFORM set_config('lock_timeout', wait_for_lock, true);
  PERFORM FROM payments WHERE id = of_payment FOR UPDATE;
  UPDATE gateway_refunds
  SET state = CASE WHEN state = 'blocked' OR state = 'refused' AND attention IS NOT NULL THEN 'queued' ELSE state END, next_attempt_at = gateway_clock(), message_due_at = NULL, updated_at = now()
  WHERE refund_id = (SELECT id FROM payment_refunds WHERE id = of_refund AND payment_id = of_payment)
    AND (state IN ('queued', 'unknown', 'refused') OR state = 'blocked' AND NOT ask_only);
  GET DIAGNOSTICS moved = ROW_COUNT;
  RETURN moved;
END $$;
--> statement-breakpoint

-- Takes off the list of what needs attention what is over and was looked at: of a payment, and of its refunds that
-- have ended. What is still open stays on it. The reason is kept with the refunds. Returns how many there were.
CREATE FUNCTION dismiss_gateway_attention(of_payment bigint, who text, why text, in_request text, wait_for_lock text) RETURNS integer
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  dismissed integer;
BEGIN
  PERFORM set_config('lock_timeout', wait_for_lock, true);
  PERFORM FROM payments WHERE id = of_payment FOR UPDATE;
  WITH refunds AS (
    UPDATE gateway_refunds SET attention = NULL, attention_at = NULL, updated_at = now()
    FROM payment_refunds
    WHERE payment_refunds.id = refund_id AND payment_id = of_payment AND attention IS NOT NULL
      AND state IN ('succeeded', 'failed')
    RETURNING refund_id, status
  ), recorded AS (
    INSERT INTO payment_refund_events (refund_id, actor, from_status, to_status, request_id, reason, cause)
    SELECT refund_id, who, status, status, in_request, why, 'person' FROM refunds
  ), of_the_payment AS (
    UPDATE gateway_payments SET attention = NULL, attention_at = NULL, updated_at = now()
    WHERE payment_id = of_payment AND attention IS NOT NULL
    RETURNING payment_id
  )
  SELECT (SELECT count(*) FROM refunds) + (SELECT count(*) FROM of_the_payment) INTO dismissed;
  RETURN dismissed;
END $$;
--> statement-breakpoint

-- Takes a refund out of the outbox, since a person says how it ended (src/refunds/settle.ts, which holds the
-- payment's row lock). Not while it is being sent. Returns the row as it is then, or none.
CREATE FUNCTION override_gateway_refund(of_refund bigint, of_payment bigint, status integer) RETURNS SETOF gateway_refunds
  LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  UPDATE gateway_refunds
  SET state = CASE override_gateway_refund.status WHEN 1 THEN 'succeeded' ELSE 'failed' END, next_attempt_at = NULL,
    attention = NULL, attention_at = NULL, updated_at = now()
  FROM payment_refunds
  WHERE refund_id = of_refund AND payment_refunds.id = refund_id AND payment_id = of_payment
    AND state NOT IN ('succeeded', 'failed') AND NOT (state = 'sending' AND gateway_send_over(gateway_refunds) > gateway_clock())
  RETURNING gateway_refunds.*;
$$;
--> statement-breakpoint

-- Up to 100 refunds of gateways that are overdue by more than five minutes, which no message has brought on. One
-- that was swept is left alone for ten minutes. Also points out those that are open for 14 days.
CREATE FUNCTION sweep_gateway_refunds() RETURNS SETOF json
  LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  UPDATE gateway_refunds SET attention = 'OLD', attention_at = gateway_clock()
  WHERE refund_id IN (
    SELECT refund_id FROM gateway_refunds
    WHERE state NOT IN ('succeeded', 'failed') AND attention IS NULL AND created_at < gateway_clock() - interval '14 days'
    FOR UPDATE SKIP LOCKED
  );

  UPDATE gateway_refunds SET swept_at = gateway_clock()
  FROM payment_refunds
  WHERE payment_refunds.id = gateway_refunds.refund_id AND gateway_refunds.refund_id IN (
    SELECT refund_id FROM gateway_refunds
    WHERE state NOT IN ('succeeded', 'failed') AND next_attempt_at < gateway_clock() - interval '5 minutes'
      AND (swept_at IS NULL OR swept_at < gateway_clock() - interval '10 minutes')
    ORDER BY next_attempt_at LIMIT 100
    FOR UPDATE SKIP LOCKED
  )
  RETURNING json_build_object('payment_id', payment_id::text, 'refund_no', refund_no);
$$;
--> statement-breakpoint

-- Removes the raw bodies of callbacks that are older than 30 days, up to 1,000; returns how many.
CREATE FUNCTION purge_gateway_notifications() RETURNS bigint
  LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  WITH purged AS (
    UPDATE gateway_notifications SET body = NULL, signature = '{}' WHERE id IN (
      SELECT id FROM gateway_notifications
      WHERE body IS NOT NULL AND received_at < gateway_clock() - interval '30 days'
      ORDER BY received_at LIMIT 1000
    )
    RETURNING id
  )
  SELECT count(*) FROM purged;
$$;
--> statement-breakpoint

-- As in 0013, with the gateway of each refund and the cause of each event.
CREATE OR REPLACE FUNCTION payment_detail(wanted bigint) RETURNS json
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
          'gateway', refund_gateway(id),
          'events_total', (SELECT count(*) FROM payment_refund_events WHERE refund_id = refund.id),
          'events', (
            SELECT coalesce(json_agg(json_build_object(
              'actor', actor,
              'from_status', from_status,
              'to_status', to_status,
              'request_id', request_id,
              'reason', reason,
              'cause', cause,
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
--> statement-breakpoint

REVOKE EXECUTE ON FUNCTION guard_gateway_refunds(), guard_gateway_amounts(), claim_gateway_refund(text, jsonb, boolean, boolean, text),
  settle_gateway_refund(bigint, jsonb, text, text, integer, timestamptz, integer, jsonb, text), pause_gateway(text, text, timestamptz),
  gateway_follow_up(bigint, text, boolean), record_gateway_answer(text, jsonb, jsonb, text, jsonb, text, boolean, text),
  take_gateway_notification(text, text, jsonb, bytea, text, jsonb, text, text), note_gateway_payment(bigint, text, text, text),
  retry_gateway_refund(bigint, bigint, text), override_gateway_refund(bigint, bigint, integer), dismiss_gateway_attention(bigint, text, text, text, text), sweep_gateway_refunds(), purge_gateway_notifications() FROM PUBLIC;
