/**
 * The table of contents: what every request passes through, every route, the consumers of the queues,
 * and the daily cron.
 */
import { Hono } from 'hono';
import { methodNotAllowed } from 'hono/method-not-allowed';
import { secureHeaders } from 'hono/secure-headers';
import { confirmDownload, consolePage, pagePolicy } from './console';
import type { Bindings } from './env';
import { listAttention } from './gateways/attention';
import { takeCallback } from './gateways/callbacks';
import { dismissAttention } from './gateways/dismiss';
import { getGatewayLog } from './gateways/log';
import { consumeDeadRefunds, consumeRefunds, dailySweep } from './gateways/outbox';
import { health } from './health';
import { ApiError, type AppEnv, answerError, crossOrigin, noStore, requestId } from './http';
import { requestLog } from './log';
import { getOpenApi } from './openapi';
import { listCallbacks } from './payments/callbacks';
import { mergeDailyTotals } from './payments/daily-totals';
import { getPayment } from './payments/detail';
import { purgeQueued } from './payments/detail-cache';
import { exportPayments } from './payments/export';
import { listPayments } from './payments/list';
import { lookUp } from './payments/lookup';
import { getStatistics } from './payments/statistics';
import { completeAbnormalRefund } from './refunds/abnormal';
import { listAllRefunds } from './refunds/all';
import { correctRefund } from './refunds/correct';
import { createRefund } from './refunds/create';
import { listRefunds } from './refunds/list';
import { retryRefund } from './refunds/retry';
import { settleRefund } from './refunds/settle';
import { syncRefund } from './refunds/sync';
import { getSession } from './session';
import { signIn } from './sign-in';
import { backgroundTask } from './task';

/** Exported for what looks at its routes; requests come in by the default export. */
export const app = new Hono<AppEnv>();

app.use(requestId);
app.use(requestLog);
app.use(pagePolicy);
app.use(secureHeaders({ contentSecurityPolicy: { defaultSrc: ["'none'"] } }));
app.use(noStore);
app.use(crossOrigin);
app.use(
  methodNotAllowed({
    app,
    onMethodNotAllowed: (c, methods) => {
      c.header('Allow', methods.join(', '));
      return answerError(new ApiError(40500), c);
    },
  }),
);

app.use('/payments/export', confirmDownload);

const routes = app
  .route('/', health)
  .route('/', getOpenApi)
  .route('/', lookUp)
  .route('/', listPayments)
  // Before /payments/:id, which would take their names for ids.
  .route('/', exportPayments)
  .route('/', getStatistics)
  .route('/', getPayment)
  .route('/', listCallbacks)
  .route('/', listRefunds)
  .route('/', getGatewayLog)
  .route('/', listAllRefunds)
  .route('/', createRefund)
  .route('/', settleRefund)
  .route('/', correctRefund)
  .route('/', syncRefund)
  .route('/', completeAbnormalRefund)
  .route('/', retryRefund)
  .route('/', takeCallback)
  .route('/', listAttention)
  .route('/', dismissAttention)
  .route('/', getSession);

// Pages, not API: they are not in the document, and no typed client needs them.
app.route('/', signIn);
app.route('/', consolePage);

app.notFound((c) => answerError(new ApiError(40400), c));
app.onError(answerError);

/** For typed clients: `hc<App>(url)`. */
export type App = typeof routes;

export default {
  fetch: app.fetch,

  async queue(batch, env, ctx) {
    // The names end with the environment.
    if (batch.queue.startsWith('payment-refunds-dead')) consumeDeadRefunds(batch);
    else if (batch.queue.startsWith('payment-refunds')) await consumeRefunds(batch, env, ctx);
    else await purgeQueued(batch, env);
  },

  async scheduled(_, env, ctx) {
    // The merge has woken the database up; what else waits for it follows, whatever came of the merge.
    try {
      await mergeDailyTotals(env);
    } finally {
      await dailySweep(backgroundTask(env, (work) => ctx.waitUntil(work)));
    }
  },
} satisfies ExportedHandler<Bindings>;
