/** The frame: the bar on top, what is wrong for the whole page, the page, and the dialogues over it. */
import { computed, useSignal } from '@preact/signals';
import { type ComponentChildren, type ComponentType, Fragment } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { expired, Failure } from './api';
import { useAttentionCount, waiting } from './attention/count';
import { PersonIcon, ThemeIcon } from './icons';
import { keysOn, switchKeys, useKeys } from './keys';
import {
  Announcements,
  announce,
  Bar,
  Dialog,
  failureText,
  NotReady,
  pair,
  ReadFailure,
  Tooltip,
} from './parts';
import { ExportPanel } from './payments/export';
import { PaymentListPage } from './payments/list';
import { Search, SearchPage } from './payments/search';
import { go, place, returned, WORK_LIST } from './router';
import { ask, may, session, sessionFailure, signOut } from './session';
import { SignedIn, SignedOut, SignIn } from './sign-in';
import { fill, speak, texts } from './texts';
import { nextTheme, theme } from './theme';

const path = computed(() => place.value.pathname.replace(/\/+$/, '') || '/console');

/** A page whose code is loaded when it is first shown. From then on it is there at once. */
function later<P extends object>(load: () => Promise<ComponentType<P>>): ComponentType<P> {
  let loaded: ComponentType<P> | undefined;
  return function Later(props: P) {
    const isLoaded = useSignal(loaded !== undefined);
    const failed = useSignal(false);
    const get = async () => {
      failed.value = false;
      try {
        loaded = await load();
        isLoaded.value = true;
      } catch {
        // After a deployment the files of the page that is open are gone: the new page has others. Once only.
        if (reloadOnce()) return;
        failed.value = true;
      }
    };
    useEffect(() => {
      if (!isLoaded.peek()) get();
    }, []);
    const Page = isLoaded.value ? loaded : undefined;
    if (Page) return <Page {...props} />;
    if (!failed.value) return <p class="muted">{texts.value.common.loading}</p>;
    return (
      <Bar
        tone="warning"
        alert
        actions={
          // Chromium remembers that a file did not come, for as long as the document lives.
          <button type="button" onClick={() => (navigator.onLine ? location.reload() : get())}>
            {texts.value.common.retry}
          </button>
        }
      >
        {texts.value.state.failedFirst}
      </Bar>
    );
  };
}

/** Loads the page anew, unless that was tried here, there is no network, or something is being typed. */
function reloadOnce(): boolean {
  const state: unknown = history.state;
  const isTried = typeof state === 'object' && state !== null && 'reloaded' in state;
  if (isTried || !navigator.onLine) return false;
  if (document.querySelector('dialog[open]')) {
    dispatchEvent(new Event('console:new-version'));
    return false;
  }
  history.replaceState({ reloaded: true }, '');
  location.reload();
  return true;
}

/** Behind the first rows, which it must not delay. */
const DETAIL_AHEAD_MS = 1_000;

const DETAIL = /^\/console\/payments\/([^/]+)$/;

const loadDetail = async () => (await import('./payments/detail')).PaymentDetailPage;
/** Ahead of its use, which says what went wrong. */
const fetchDetail = () => loadDetail().catch(() => {});
// A link to a payment needs it as soon as the session is known.
if (DETAIL.test(path.peek())) fetchDetail();

const PaymentDetailPage = later(loadDetail);
const RefundListPage = later(async () => (await import('./refunds/list')).RefundListPage);
const AttentionPage = later(async () => (await import('./attention/attention')).AttentionPage);
const StatisticsPage = later(async () => (await import('./statistics/statistics')).StatisticsPage);

/** The page of an address. Its key changes where nothing of the page before may stay. */
function Page() {
  const at = path.value;
  const id = DETAIL.exec(at)?.[1];
  if (id) return <PaymentDetailPage key={id} id={id} />;
  if (at === '/console' || at === '/console/payments') return <PaymentListPage />;
  if (at === '/console/refunds') return <RefundListPage />;
  if (at === '/console/attention') return <AttentionPage />;
  if (at === '/console/statistics') return <StatisticsPage />;
  if (at === '/console/search') return <SearchPage />;
  if (at === '/console/signing-in') return <SignedIn />;
  return (
    <section class="whole-page">
      <h1>{texts.value.state.notFound}</h1>
      <p>
        <a href="/console/payments">{texts.value.nav.payments}</a>
      </p>
    </section>
  );
}

/** All of it. */
export function App() {
  const main = useRef<HTMLElement>(null);
  const shownPath = useRef(path.value);

  // A page that was gone to has the focus on its heading, so that it is read out; the way back finds its row itself.
  useEffect(
    () =>
      path.subscribe((next) => {
        if (next === shownPath.current) return;
        shownPath.current = next;
        if (returned.value) return;
        requestAnimationFrame(() => {
          if (document.querySelector('dialog[open]')) return;
          main.current?.querySelector('h1')?.focus({ preventScroll: true });
        });
      }),
    [],
  );

  // What is most often opened from a list is there before the click.
  useEffect(() => {
    if (!session.value) return;
    const timer = setTimeout(fetchDetail, DETAIL_AHEAD_MS);
    return () => clearTimeout(timer);
  }, [session.value]);

  if (path.value === '/console/signed-out') return <SignedOut />;
  const failure = sessionFailure.value;
  if (session.value === undefined) {
    if (failure?.code === 50301 || failure?.code === 50302) return <NotReady />;
    return failure ? <ReadFailure failure={failure} stale={false} reload={ask} /> : null;
  }
  if (session.value === null) return <SignIn />;
  // Whoever signs in over what somebody else has left open finds nothing of it.
  return (
    <Fragment key={session.value.actor}>
      <TopBar />
      <main id="content" ref={main}>
        <Offline />
        <NewVersion />
        <Page />
      </main>
      <ExportPanel />
      <Announcements />
      <Tooltip />
      {expired.value && <Expired />}
    </Fragment>
  );
}

function TopBar() {
  const { nav } = texts.value;
  const help = useSignal(false);
  // The page itself asks more often.
  useAttentionCount(may('payments:read') && path.value !== '/console/attention');
  useKeys({
    'g p': () => go('/console/payments'),
    'g r': () => go(WORK_LIST),
    'g a': () => go('/console/attention'),
    'g s': () => go('/console/statistics'),
    '?': () => {
      help.value = true;
    },
  });
  const link = (page: string, href: string, text: ComponentChildren, keys: string) => (
    <a
      href={href}
      aria-keyshortcuts={keys}
      {...(path.value.startsWith(page) || (page.endsWith('payments') && path.value === '/console')
        ? { 'aria-current': 'page' as const }
        : {})}
    >
      {text}
    </a>
  );
  return (
    <>
      <a class="skip button" href="#content">
        {nav.skip}
      </a>
      <header class="top">
        <nav aria-label={nav.label}>
          {link('/console/payments', '/console/payments', nav.payments, 'g p')}
          {link('/console/refunds', WORK_LIST, nav.refunds, 'g r')}
          {link('/console/attention', '/console/attention', <AttentionLink />, 'g a')}
          {link('/console/statistics', '/console/statistics', nav.statistics, 'g s')}
        </nav>
        <Search />
        <div class="tools">
          <button
            type="button"
            class="quiet"
            aria-label={pair(nav.theme, nav.themes[theme.value])}
            data-tip={pair(nav.theme, nav.themes[theme.value])}
            onClick={nextTheme}
          >
            <ThemeIcon />
          </button>
          <button
            type="button"
            class="quiet"
            aria-label={`${nav.otherLanguage} ${nav.switchLanguage}`}
            lang={texts.value.language === 'en' ? 'zh-CN' : 'en'}
            onClick={() => speak(texts.value.language === 'en' ? 'zh' : 'en')}
          >
            {nav.otherLanguage}
          </button>
          <button
            type="button"
            class="quiet"
            popoverTarget="account"
            aria-label={`${nav.account} ${session.value?.actor}`}
          >
            <PersonIcon />
            <span class="actor">{session.value?.actor}</span>
          </button>
          <div class="menu" id="account" popover="auto">
            <p>
              <span class="label">{nav.account}</span>
              <br />
              {session.value?.actor}
            </p>
            <button
              type="button"
              popoverTarget="account"
              aria-keyshortcuts="?"
              onClick={() => {
                help.value = true;
              }}
            >
              {nav.keys}
            </button>
            <button
              type="button"
              onClick={() => signOut().catch((error: unknown) => announce(failedText(error)))}
            >
              {nav.signOut}
            </button>
          </div>
        </div>
      </header>
      {help.value && <Help onClose={() => (help.value = false)} />}
    </>
  );
}

/** The word, and how much there is. */
function AttentionLink() {
  const { nav, attention } = texts.value;
  return (
    <>
      {nav.attention}
      {waiting.value > 0 && (
        <>
          <span class="waiting-count" aria-hidden="true">
            {waiting.value > 99 ? '99+' : waiting.value}
          </span>
          <span class="visually-hidden">{fill(attention.count, { count: waiting.value })}</span>
        </>
      )}
    </>
  );
}

function failedText(error: unknown): string {
  if (!(error instanceof Failure)) throw error;
  return failureText(error);
}

function Help({ onClose }: { onClose: () => void }) {
  const { keys, common } = texts.value;
  return (
    <Dialog title={keys.title} onClose={onClose}>
      <div class="stack">
        <label class="row choice">
          <input
            type="checkbox"
            checked={keysOn.value}
            onChange={(event) => switchKeys(event.currentTarget.checked)}
          />
          {keys.on}
        </label>
        <dl class="pairs">
          {Object.entries(keys.list).map(([key, what]) => (
            <>
              <dt>
                {key.split(' ').map((one) => (
                  <kbd key={one}>{one}</kbd>
                ))}
              </dt>
              <dd>{what}</dd>
            </>
          ))}
        </dl>
        <div class="end">
          <button type="button" onClick={onClose}>
            {common.close}
          </button>
        </div>
      </div>
    </Dialog>
  );
}

/** While the browser knows that there is no network. */
function Offline() {
  const offline = useSignal(!navigator.onLine);
  useEffect(() => {
    const look = () => {
      offline.value = !navigator.onLine;
      // What failed meanwhile asks again.
      if (navigator.onLine) dispatchEvent(new Event('console:online'));
    };
    addEventListener('online', look);
    addEventListener('offline', look);
    return () => {
      removeEventListener('online', look);
      removeEventListener('offline', look);
    };
  }, [offline]);
  return offline.value ? (
    <Bar tone="warning" alert>
      {texts.value.state.offline}
    </Bar>
  ) : null;
}

/** A deployment has replaced the code of this page while something was being typed. */
function NewVersion() {
  const there = useSignal(false);
  useEffect(() => {
    const show = () => {
      there.value = true;
    };
    addEventListener('console:new-version', show);
    return () => removeEventListener('console:new-version', show);
  }, [there]);
  if (!there.value) return null;
  return (
    <Bar
      actions={
        <button type="button" onClick={() => location.reload()}>
          {texts.value.common.refresh}
        </button>
      }
    >
      {texts.value.state.newVersion}
    </Bar>
  );
}

/** Over everything, with everything typed still there. A new tab signs in, and tells this one. */
function Expired() {
  const { session: words } = texts.value;
  return (
    <Dialog title={words.expired} onClose={() => {}} closable={false}>
      <div class="stack">
        <p role="alert">{words.expiredHelp}</p>
        <div class="end">
          <a
            class="button primary"
            href="/console/signing-in"
            target="_blank"
            rel="noopener opener"
          >
            {words.again}
            <span class="visually-hidden">{texts.value.common.newTab}</span>
          </a>
        </div>
      </div>
    </Dialog>
  );
}
