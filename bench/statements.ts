/**
 * PostgreSQL's time for the statement of a detail and of page 1, beside the statements that did less
 * before: unnamed, over one connection, as Neon's proxy sends them, minus a SELECT 1. Like the proxy, the
 * bench leaves the plans of functions in the session.
 */
import pg from 'pg';
import { fill } from './data.ts';
import {
  atMost,
  calls,
  cycle,
  median,
  medianRatio,
  ms,
  type Result,
  type Section,
  type Stack,
  send,
} from './stack.ts';

const DATABASE = 'bench_statements';
const ROWS = 100_000;
const PER_ROUND = 20;

/** What a statement may take of the time of the one before. */
const GOALS = { detail: 0.3, list: 0.6 };

export async function measureStatements(stack: Stack, quick: boolean): Promise<Section> {
  const client = await stack.createDatabase(DATABASE);
  await fill(client, ROWS);
  const sent = await stack.withWorkers(DATABASE, async (workers) => {
    const call = calls(workers);
    await send(call.detail(1));
    const detail = await stack.lastStatement(DATABASE);
    await send(call.list());
    return { detail, list: await stack.lastStatement(DATABASE) };
  });

  const session = new pg.Client({
    connectionString: stack.connectionString(DATABASE),
    // What the values look like is not PostgreSQL's work.
    types: { getTypeParser: () => (value: string) => value },
  });
  session.on('error', () => {});
  await session.connect();
  const timed = async (text: string, params: () => (string | null)[]) => {
    const began = performance.now();
    for (let i = 0; i < PER_ROUND; i++) await session.query(text, params());
    return (performance.now() - began) / PER_ROUND;
  };

  // Every tenth payment has callbacks, and some of these a refund.
  const tenth = cycle(ROWS / 10);
  const aDetail = () => String(10 * tenth());
  const statements = [
    { name: 'SELECT 1', text: 'SELECT 1', params: () => [] },
    { name: 'detail', text: sent.detail.query, params: () => [aDetail()] },
    { name: 'detail before', text: DETAIL_BEFORE, params: () => [aDetail()] },
    { name: 'page 1', text: sent.list.query, params: () => sent.list.params },
    { name: 'page 1 before', text: PAGE_1_BEFORE, params: () => ['11'] },
  ] as const;
  const rounds = quick ? 5 : 40;
  const times = statements.map((): number[] => []);
  // The first round is not counted: in it, the session reads its catalogues and plans what it keeps.
  for (let round = 0; round <= rounds; round++) {
    for (const [index, { text, params }] of statements.entries()) {
      const time = await timed(text, params);
      if (round > 0) times[index]?.push(time);
    }
  }
  await session.end();

  const [floor = [], ...above] = times;
  const [detail = [], detailBefore = [], list = [], listBefore = []] = above.map((values) =>
    values.map((value, round) => value - (floor[round] ?? Number.NaN)),
  );
  const result = (name: string, ours: number[], before: number[], goal: number): Result => {
    const ratio = medianRatio(ours, before);
    return {
      name,
      ours: ms(median(ours)),
      beside: ms(median(before)),
      ratio,
      goal: atMost(ratio, goal),
    };
  };
  return {
    title: "PostgreSQL's time for a statement",
    heads: ['now', 'before'],
    results: [
      result('detail', detail, detailBefore, GOALS.detail),
      result('page 1', list, listBefore, GOALS.list),
    ],
    notes: [
      `${ROWS} payments; ${rounds} rounds in which the statements take turns, ${PER_ROUND} of each. Parsing, planning and execution over one connection, minus the ${ms(median(floor))} of a SELECT 1. Before: the statements that were parsed and planned for each request. They showed no refunded amounts, the list no sum, and the detail had no limit.`,
    ],
    raw: Object.fromEntries(
      statements.map(({ name }, index) => [`${name}, ms`, times[index] ?? []]),
    ),
  };
}

/** Verbatim, as the Worker sent it. */
const DETAIL_BEFORE = `
    SELECT json_build_object('id', "payments"."id"::text, 'order_id', "payments"."order_id"::text, 'order_no', "orders"."order_no", 'payment_no', "payments"."payment_no", 'payment_method', "payments"."payment_method", 'amount', "payments"."amount"::text, 'status', "payments"."status", 'payment_time', to_char("payments"."payment_time" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'refund_time', to_char("payments"."refund_time" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'created_at', to_char("payments"."created_at" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'updated_at', to_char("payments"."updated_at" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'refundable_amount', (CASE WHEN "payments"."status" = 1 THEN greatest(("payments"."amount" - (SELECT coalesce(sum("payment_refunds"."amount"), 0) FROM "payment_refunds" WHERE "payment_refunds"."payment_id" = "payments"."id" AND "payment_refunds"."status" <> 2)), 0) ELSE 0 END)::numeric(18, 2)::text, 'callbacks', (
    SELECT coalesce(json_agg(json_build_object('id', "payment_callbacks"."id"::text, 'callback_no', "payment_callbacks"."callback_no", 'status', "payment_callbacks"."status", 'created_at', to_char("payment_callbacks"."created_at" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')) ORDER BY "payment_callbacks"."created_at", "payment_callbacks"."id"), '[]')
    FROM "payment_callbacks" WHERE "payment_callbacks"."payment_id" = "payments"."id"), 'refunds', (
    SELECT coalesce(json_agg(json_build_object('id', "payment_refunds"."id"::text, 'refund_no', "payment_refunds"."refund_no", 'amount', "payment_refunds"."amount"::text, 'reason', "payment_refunds"."reason", 'status', "payment_refunds"."status", 'created_at', to_char("payment_refunds"."created_at" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'events', (
    SELECT coalesce(json_agg(json_build_object('actor', "payment_refund_events"."actor", 'from_status', "payment_refund_events"."from_status", 'to_status', "payment_refund_events"."to_status", 'request_id', "payment_refund_events"."request_id", 'created_at', to_char("payment_refund_events"."created_at" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')) ORDER BY "payment_refund_events"."created_at", "payment_refund_events"."id"), '[]')
    FROM "payment_refund_events" WHERE "payment_refund_events"."refund_id" = "payment_refunds"."id")) ORDER BY "payment_refunds"."created_at", "payment_refunds"."id"), '[]')
    FROM "payment_refunds" WHERE "payment_refunds"."payment_id" = "payments"."id")) AS payment
    FROM payments LEFT JOIN orders ON orders.id = payments.order_id
    WHERE payments.id = $1`;

/** Verbatim, as the Worker sent it. */
const PAGE_1_BEFORE = `
      
      SELECT (
    SELECT coalesce(sum(payments), 0) FROM (SELECT payments FROM payment_monthly_totals WHERE true UNION ALL SELECT payments FROM payment_daily_totals WHERE "payment_daily_totals"."writer" <> 0) AS counted) AS total, (
        SELECT coalesce(json_agg(json_build_object('id', "payments"."id"::text, 'order_no', (SELECT order_no FROM orders WHERE orders.id = "payments"."order_id"), 'payment_no', "payments"."payment_no", 'payment_method', "payments"."payment_method", 'amount', "payments"."amount"::text, 'status', "payments"."status", 'payment_time', to_char("payments"."payment_time" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'created_at', to_char("payments"."created_at" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) ORDER BY "payments"."created_at" desc, "payments"."id" desc), '[]')
        FROM payments WHERE id = ANY (ARRAY(
          SELECT id FROM payments
          WHERE true
          ORDER BY "payments"."created_at" desc, "payments"."id" desc
          LIMIT $1 OFFSET 0
        ))
      ) AS found`;
