/** Who is not signed in sees how to, and never an empty list. */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { Failure, get } from './api';
import { failureText } from './parts';
import { place } from './router';
import { linkFailure, session, signIn } from './session';
import { texts } from './texts';

/** The page to sign in, at whatever address it was that needs it. */
export function SignIn() {
  const { session: words } = texts.value;
  const provider = useSignal(false);
  const token = useSignal('');
  const { value: link } = linkFailure;
  const problem = useSignal(link ? textOf(link) : '');
  const busy = useSignal(false);
  // A link may also be opened where this page is already shown.
  useEffect(() => {
    if (link) problem.value = textOf(link);
  }, [link, problem]);
  useEffect(() => {
    document.title = `${words.title} · ${texts.value.title}`;
    get<{ provider: boolean }>('/console/session', { once: true }).then(
      ({ data }) => {
        provider.value = data.provider;
      },
      (error: unknown) => {
        if (error instanceof Failure && error.code !== 40100) problem.value = failureText(error);
      },
    );
  }, [provider, problem, words]);

  const submit = async (event: Event) => {
    event.preventDefault();
    if (busy.value) return;
    busy.value = true;
    problem.value = '';
    try {
      await signIn(token.value);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      problem.value = textOf(error);
    } finally {
      busy.value = false;
    }
  };

  const to = place.value.pathname + place.value.search;
  return (
    <main class="whole-page">
      <h1 tabIndex={-1}>{texts.value.title}</h1>
      {provider.value && (
        <p>
          <a class="button primary" href={`/console/sign-in?to=${encodeURIComponent(to)}`}>
            {words.provider}
          </a>
        </p>
      )}
      <form class="sign-in" onSubmit={submit}>
        <div class="field">
          <label for="token">{words.token}</label>
          <input
            id="token"
            type="password"
            autocomplete="off"
            spellcheck={false}
            required
            value={token.value}
            aria-describedby="token-help token-problem"
            aria-invalid={problem.value !== ''}
            onInput={(event) => {
              token.value = event.currentTarget.value;
            }}
          />
          <p class="field-error" id="token-problem" role="alert">
            {problem.value}
          </p>
        </div>
        <button type="submit" class={provider.value ? '' : 'primary'}>
          {words.submit}
        </button>
        <p class="field-hint" id="token-help">
          {words.tokenHelp}
        </p>
      </form>
    </main>
  );
}

/** Why a token did not sign in. */
function textOf(failure: Failure): string {
  const { session: words } = texts.value;
  if (failure.code === 40100) return words.wrong;
  if (failure.code !== 40000) return failureText(failure);
  const [problem] = failure.errors;
  if (problem?.path === 'token') return words.tooLarge;
  return problem === undefined ? words.wrong : words.insecure;
}

/** Where a new tab ends that was opened because another one's session had expired. */
export function SignedIn() {
  useEffect(() => {
    new BroadcastChannel('console-session').postMessage('signed in');
    window.close();
  }, []);
  return (
    <section class="whole-page">
      <h1 tabIndex={-1}>{session.value && texts.value.session.done}</h1>
      <p>
        <a href="/console/payments">{texts.value.nav.payments}</a>
      </p>
    </section>
  );
}

/** After signing out. */
export function SignedOut() {
  const { session: words } = texts.value;
  return (
    <main class="whole-page">
      <h1 tabIndex={-1}>{words.signedOut}</h1>
      <p>
        <a class="button" href="/console/payments">
          {words.submit}
        </a>
      </p>
    </main>
  );
}
