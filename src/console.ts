/**
 * The console's page, at every address under /console that is no file: the app in it reads the address.
 * Its files are answered by Cloudflare without the Worker (wrangler.toml). A file of an older deployment
 * gets here, and is 404: no cache may keep the page in its place.
 */
import { type Context, Hono, type MiddlewareHandler } from 'hono';
import { readCookie } from './cookies';
import { NotConfiguredError } from './env';
import { ApiError, type AppEnv, envelope } from './http';
import { messagePage } from './page';

/** Whatever we answer as HTML: only our own files run, no script can make markup, nobody frames it. */
const PAGE_POLICY = [
  "default-src 'none'",
  ...['script-src', 'style-src', 'img-src', 'connect-src', 'form-action'].map(
    (directive) => `${directive} 'self'`,
  ),
  "base-uri 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

/** Gives pages their policy. It goes around secureHeaders, whose policy for the API would win otherwise. */
export const pagePolicy: MiddlewareHandler<AppEnv> = async function pagePolicy(c, next) {
  await next();
  if (c.res.headers.get('Content-Type')?.startsWith('text/html')) {
    c.header('Content-Security-Policy', PAGE_POLICY);
  }
};

/**
 * A download link that was opened from a mail or the address bar: the cookie counts for our own pages only,
 * so a page of ours repeats the link, and a click on it downloads the file.
 */
export const confirmDownload: MiddlewareHandler<AppEnv> = async function confirmDownload(c, next) {
  const site = c.req.header('Sec-Fetch-Site');
  const isOpened = c.req.method === 'GET' && c.req.header('Sec-Fetch-Mode') === 'navigate';
  const assertion = c.req.header('Cf-Access-Jwt-Assertion');
  const hasSession = readCookie(c, 'console') !== undefined;
  // Access admits what was typed or opened from a mail, but not what came by way of another site, its own included.
  const needsClick =
    site === 'none'
      ? hasSession && !assertion
      : site !== 'same-origin' && (hasSession || assertion);
  if (!isOpened || site === undefined || !needsClick || c.req.header('Authorization'))
    return next();

  const { pathname, search } = new URL(c.req.url);
  c.get('log').code = 40100;
  c.header('WWW-Authenticate', 'Bearer');
  const page = messagePage({
    title: '导出支付记录',
    texts: ['请点击下载。', 'Click to download the payments.'],
    href: pathname + search,
    label: '下载 CSV',
  });
  return c.html(page, 401);
};

/** Where the console begins. */
export const CONSOLE_START = '/console/payments';

export const consolePage = new Hono<AppEnv>()
  .get('/', (c) => {
    if (c.req.header('Accept')?.includes('text/html')) return c.redirect(CONSOLE_START);
    return c.json(envelope('支付管理', { openapi: '/openapi.json' }));
  })
  .get('/console/assets/*', () => {
    throw new ApiError(40400);
  })
  .get('/console', answerPage)
  .get('/console/*', answerPage);

async function answerPage(c: Context<AppEnv>): Promise<Response> {
  const page = await c.env.ASSETS?.fetch(new URL('/console/', c.req.url));
  if (!page?.ok)
    throw new NotConfiguredError('ASSETS: no page in dist/site, npm run build makes it');
  // It names the files of its deployment, so a browser asks for it each time.
  return c.html(await page.text(), 200, { 'Cache-Control': 'no-cache' });
}
