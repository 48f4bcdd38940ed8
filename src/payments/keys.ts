/**
 * The keys of a filter's payments in the order of the list, newest first: created_at and id of as many as
 * are asked for. An index holds the order of one status, of one method and status, and of one refund
 * state. So for several of them each is read by its index, as far as it is needed, and the results are
 * merged. However rare the payments are, none that does not match is read, except that the list without
 * refunds passes over the payments that have some.
 */
import { and, type Column, desc, eq, type SQL, sql } from 'drizzle-orm';
import { arrayLiteral, type Bind } from '../prepared';
import { paymentRefundTotals, payments } from '../schema';
import { type Filter, within } from './filter';
import { PaymentStatus, stateNumber } from './payment';

/** What the order of the list is made of, in payments or in payment_refund_totals. */
interface Ordered {
  createdAt: Column;
  id: Column;
}

/** Which part of the order is wanted. */
interface Part {
  /** A further condition on the key. */
  where?: ((columns: Ordered) => SQL | undefined) | undefined;
  limit: SQL;
  offset?: SQL | undefined;
}

/** A query for created_at and id. The order_no and payment_no of the filter are left out. */
export function keysOf(filter: Filter, bind: Bind<Filter>, part: Part): SQL {
  const { where = () => undefined, limit, offset = sql`0` } = part;
  const { status, payment_method: method, refund_state: states } = filter;
  const enough = part.offset ? sql`${limit} + ${part.offset}` : limit;
  const range = (columns: Ordered) =>
    and(within(columns.createdAt, filter, bind), where(columns)) ?? sql`true`;

  const oneStatus = status?.length === 1 ? bind((given) => given.status?.[0]) : undefined;
  const oneMethod = method?.length === 1 ? bind((given) => given.payment_method?.[0]) : undefined;
  const single = status === undefined ? method === undefined : oneStatus && (!method || oneMethod);
  if (states === undefined && single) {
    return sql`
          SELECT created_at, id FROM payments
          WHERE ${and(oneStatus && eq(payments.status, oneStatus), oneMethod && eq(payments.paymentMethod, oneMethod), range(payments))}
          ORDER BY ${desc(payments.createdAt)}, ${desc(payments.id)} LIMIT ${limit} OFFSET ${offset}`;
  }

  const wanted = [
    sql`unnest(${bind((given) => arrayLiteral(given.status ?? [...PaymentStatus.values]))}::integer[]) AS wanted_status`,
    ...(method
      ? [
          sql`unnest(${bind((given) => arrayLiteral(given.payment_method ?? []))}::text[]) AS wanted_method`,
        ]
      : []),
  ];
  const asWanted = (table: { status: Column; paymentMethod: Column }) =>
    and(
      sql`${table.status} = wanted_status`,
      method && sql`${table.paymentMethod} = wanted_method`,
    );

  const sources: SQL[] = [];
  if (states === undefined || states.includes('none')) {
    // A payment that is 已退款 and has no refund has a row in payment_refund_totals.
    const withoutRefunds = sql`wanted_status <> ${REFUNDED} AND NOT EXISTS (
                SELECT FROM payment_refund_totals WHERE payment_id = payments.id AND refund_state <> 0)`;
    sources.push(sql`
            SELECT key.* FROM ${sql.join(wanted, sql`, `)}, LATERAL (
              SELECT created_at, id FROM payments
              WHERE ${and(asWanted(payments), states && withoutRefunds, range(payments))}
              ORDER BY ${desc(payments.createdAt)}, ${desc(payments.id)} LIMIT ${enough}
            ) AS key`);
  }
  if (states !== undefined) {
    const totals = { ...columnsOf(paymentRefundTotals), id: paymentRefundTotals.paymentId };
    const numbers = bind((given) => arrayLiteral(given.refund_state?.map(stateNumber) ?? []));
    sources.push(sql`
            SELECT key.* FROM unnest(${numbers}::integer[]) AS wanted_state, ${sql.join(wanted, sql`, `)}, LATERAL (
              SELECT created_at, payment_id AS id FROM payment_refund_totals
              WHERE refund_state = wanted_state AND (wanted_state <> 0 OR wanted_status = ${REFUNDED})
                AND ${and(asWanted(totals), range(totals))}
              ORDER BY ${desc(totals.createdAt)}, ${desc(totals.id)} LIMIT ${enough}
            ) AS key`);
  }
  return sql`
          SELECT created_at, id FROM (${sql.join(sources, sql` UNION ALL `)}
          ) AS merged
          ORDER BY created_at DESC, id DESC LIMIT ${limit} OFFSET ${offset}`;
}

/** The status of payments that are 已退款. */
const REFUNDED = sql.raw('3');

/** After the payment with this created_at and id, in the order of the list. */
export function after(key: SQL): (columns: Ordered) => SQL {
  return ({ createdAt, id }) => sql`(${createdAt}, ${id}) < (${key})`;
}

function columnsOf({ createdAt, status, paymentMethod }: typeof paymentRefundTotals) {
  return { createdAt, status, paymentMethod };
}
