/**
 * An OpenID provider for the tests, on 127.0.0.1: authorization code flow with PKCE, for any number of issuers
 * (`/NAME`), each with a behaviour of its own. It signs in whoever comes, as user-1, without asking.
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage } from 'node:http';
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose';
import type { Behaviour } from './identity-behaviour.ts';

interface Issuer {
  behaviour: Behaviour;
  /** The authorization requests by their codes. */
  codes: Map<string, URLSearchParams>;
  /** How often each path was asked for. */
  requests: Record<string, number>;
}

const newIssuer = (): Issuer => ({ behaviour: {}, codes: new Map(), requests: {} });

interface Answer {
  status?: number;
  headers?: Record<string, string>;
  body?: unknown;
}

/** The client, and its one address to come back to. */
const CLIENT_ID = 'console';
const REDIRECT_URI = 'https://api.test/console/signed-in';

/** Starts it on a free port. `GET /NAME/requests` says how often each path was asked for. */
export async function startIdentityProvider(): Promise<{ url: string; stop(): void }> {
  const { publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true });
  const keys = { keys: [{ ...(await exportJWK(publicKey)), kid: 'key-1', use: 'sig' }] };
  const issuers = new Map<string, Issuer>();

  const server = createServer(async (request, response) => {
    const url = new URL(request.url ?? '/', `http://${request.headers.host}`);
    const [, name = '', ...rest] = url.pathname.split('/');
    const path = rest.join('/');
    const issuer = issuers.get(name) ?? newIssuer();
    issuers.set(name, issuer);
    issuer.requests[path] = (issuer.requests[path] ?? 0) + 1;
    const { status = 200, headers = {}, body } = await answer(issuer, path, url, request);
    response.writeHead(status, { 'Content-Type': 'application/json', ...headers });
    response.end(body === undefined ? undefined : JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('no port');
  return { url: `http://127.0.0.1:${address.port}`, stop: () => server.close() };

  async function answer(
    issuer: Issuer,
    path: string,
    url: URL,
    request: IncomingMessage,
  ): Promise<Answer> {
    const { behaviour } = issuer;
    const identifier = `${url.origin}/${url.pathname.split('/')[1]}`;
    switch (`${request.method} ${path}`) {
      case 'PUT behaviour':
        issuer.behaviour = JSON.parse((await request.toArray()).join(''));
        return { status: 204 };
      case 'GET requests':
        return { body: issuer.requests };
      case 'GET jwks':
        return { body: keys };
      case 'GET .well-known/openid-configuration':
        return {
          status: behaviour.metadataStatus ?? 200,
          body: withChanges(
            {
              issuer: identifier,
              authorization_endpoint: `${identifier}/authorize?prompt=login`,
              token_endpoint: `${identifier}/token`,
              jwks_uri: `${identifier}/jwks`,
              response_types_supported: ['code'],
              code_challenge_methods_supported: ['S256'],
              id_token_signing_alg_values_supported: ['ES256'],
              authorization_response_iss_parameter_supported: true,
            },
            behaviour.metadata,
          ),
        };
      case 'GET authorize':
        return authorize(issuer, identifier, url.searchParams);
      case 'POST token':
        return await redeem(issuer, identifier, request);
      default:
        return { status: 404 };
    }
  }

  function authorize({ behaviour, codes }: Issuer, iss: string, asked: URLSearchParams): Answer {
    const isComplete =
      asked.get('client_id') === CLIENT_ID &&
      asked.get('redirect_uri') === REDIRECT_URI &&
      asked.get('response_type') === 'code' &&
      asked.get('code_challenge_method') === 'S256' &&
      ['state', 'nonce', 'code_challenge', 'scope', 'audience'].every((name) => asked.get(name));
    if (!isComplete) return { status: 400, body: Object.fromEntries(asked) };
    const code = crypto.randomUUID();
    codes.set(code, asked);
    const back = new URL(REDIRECT_URI);
    back.searchParams.set('state', asked.get('state') ?? '');
    back.searchParams.set('iss', iss);
    if (behaviour.error === undefined) back.searchParams.set('code', code);
    else back.searchParams.set('error', behaviour.error);
    return { status: 302, headers: { Location: back.href } };
  }

  async function redeem(
    { behaviour, codes }: Issuer,
    iss: string,
    request: IncomingMessage,
  ): Promise<Answer> {
    if (behaviour.tokenStatus !== undefined) return { status: behaviour.tokenStatus };
    const form = new URLSearchParams((await request.toArray()).join(''));
    if (!isClient(behaviour, request, form))
      return { status: 401, body: { error: 'invalid_client' } };

    const code = form.get('code') ?? '';
    const asked = codes.get(code);
    codes.delete(code);
    const verifier = createHash('sha256').update(form.get('code_verifier') ?? '');
    const isGranted =
      form.get('grant_type') === 'authorization_code' &&
      form.get('redirect_uri') === REDIRECT_URI &&
      asked?.get('code_challenge') === verifier.digest('base64url');
    if (!asked || !isGranted) return { status: 400, body: { error: 'invalid_grant' } };

    const sign = (claims: JWTPayload) =>
      new SignJWT({ iss, sub: 'user-1', ...claims })
        .setProtectedHeader({ alg: 'ES256', kid: 'key-1' })
        .setIssuedAt()
        .setExpirationTime('1 hour')
        .sign(privateKey);
    const tokens = {
      token_type: 'Bearer',
      expires_in: 3600,
      access_token: await sign({
        aud: asked.get('audience') ?? '',
        scope: 'payments:read refunds:create',
        ...behaviour.claims,
      }),
      ...(asked.get('scope')?.split(' ').includes('openid') && {
        id_token: await sign({
          aud: CLIENT_ID,
          nonce: asked.get('nonce') ?? '',
          ...behaviour.idToken,
        }),
      }),
    };
    return { body: withChanges(tokens, behaviour.answer) };
  }
}

function isClient(
  { secret, secretBy }: Behaviour,
  request: IncomingMessage,
  form: URLSearchParams,
) {
  if (secret === undefined) return form.get('client_id') === CLIENT_ID;
  const basic = `Basic ${Buffer.from(`${CLIENT_ID}:${secret}`).toString('base64')}`;
  return secretBy === 'post'
    ? form.get('client_id') === CLIENT_ID && form.get('client_secret') === secret
    : request.headers.authorization === basic && form.get('client_secret') === null;
}

function withChanges(object: Record<string, unknown>, changes: Record<string, unknown> = {}) {
  const changed = Object.entries({ ...object, ...changes });
  return Object.fromEntries(changed.filter(([, value]) => value !== null));
}
