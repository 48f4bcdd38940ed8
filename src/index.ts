/**
 * The table of contents: what every request passes through, every route, the purge queue's consumer,
 * and the daily merge.
 */
import { Hono } from 'hono';
import { methodNotAllowed } from 'hono/method-not-allowed';
import { secureHeaders } from 'hono/secure-headers';
import type { Bindings } from './env';
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
import { getStatistics } from './payments/statistics';
import { correctRefund } from './refunds/correct';
import { createRefund } from './refunds/create';
import { listRefunds } from './refunds/list';
import { settleRefund } from './refunds/settle';

/** Exported for what looks at its routes; requests come in by the default export. */
export const app = new Hono<AppEnv>();

app.use(requestId);
app.use(requestLog);
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

const routes = app
  .route('/', health)
  .route('/', getOpenApi)
  .route('/', listPayments)
  // Before /payments/:id, which would take their names for ids.
  .route('/', exportPayments)
  .route('/', getStatistics)
  .route('/', getPayment)
  .route('/', listCallbacks)
  .route('/', listRefunds)
  .route('/', createRefund)
  .route('/', settleRefund)
  .route('/', correctRefund);

app.notFound((c) => answerError(new ApiError(40400), c));
app.onError(answerError);

/** For typed clients: `hc<App>(url)`. */
export type App = typeof routes;

export default {
  fetch: app.fetch,
  queue: purgeQueued,
  scheduled: mergeDailyTotals,
} satisfies ExportedHandler<Bindings>;
