/**
 * The gateways of this deployment. A gateway is a folder and one line in KINDS; docs/gateways.md says how to
 * add one. Its keys are read and proven once per isolate. Keys that are missing or wrong are named in the log,
 * and stop this gateway's refunds only.
 */
import { type Bindings, NotConfiguredError, settings } from '../env';
import { describeError, writeLog } from '../log';
import { alipay } from './alipay/alipay';
import type { Gateway, GatewayKind } from './gateway';
import { wechat } from './wechat/wechat';

/** By the payment_method of their payments. */
const KINDS: Record<string, GatewayKind> = { wechat, alipay };

/** What is true of this gateway whatever its keys are; undefined where there is none of this name. */
export function gatewayKind(name: string): GatewayKind | undefined {
  return Object.hasOwn(KINDS, name) ? KINDS[name] : undefined;
}

/** The gateways of a deployment. */
export interface Gateways {
  /** By name: those whose keys are there, in GATEWAYS or not, since refunds of before have to be followed. */
  configured: Map<string, Gateway>;
  /** For the functions in the database, as JSON: by name, account, gap and proof of those that are configured. */
  rules: string;
  /**
   * For a new refund, as JSON: by payment method of those in GATEWAYS, whether it is `ready`, and after how many
   * `days` a payment is too old.
   */
  offers: string;
}

let known: { variables: string; gateways: Promise<Gateways> } | undefined;

/** The gateways, after their keys were proven. Never throws for them, only where the deployment has no settings. */
export function gatewaysOf(env: Bindings): Promise<Gateways> {
  const { GATEWAYS } = settings(env);
  const texts = Object.entries(env).filter(([, value]) => typeof value === 'string');
  const variables = JSON.stringify(texts);
  if (known?.variables !== variables) {
    known = { variables, gateways: configure(GATEWAYS, Object.fromEntries(texts)) };
  }
  return known.gateways;
}

async function configure(named: string[], variables: Record<string, unknown>): Promise<Gateways> {
  const configured = new Map<string, Gateway>();
  for (const name of new Set([...Object.keys(KINDS), ...named])) {
    try {
      const kind = gatewayKind(name);
      if (!kind) throw new NotConfiguredError(`GATEWAYS: there is no gateway ${name}`);
      configured.set(name, await kind.configure(variables));
    } catch (error) {
      if (named.includes(name)) {
        writeLog('error', 'gateway_not_configured', { gateway: name, error: describeError(error) });
      }
    }
  }
  return {
    configured,
    rules: byName([...configured.keys()], (name, { gapSeconds, proofSeconds }) => ({
      account: configured.get(name)?.account,
      gap: gapSeconds,
      proof: proofSeconds,
    })),
    offers: byName(named, (name, { refundDays }) => ({
      ready: configured.has(name),
      days: refundDays,
    })),
  };
}

function byName(names: string[], rule: (name: string, kind: GatewayKind) => object): string {
  const entries = names.flatMap((name) => {
    const kind = gatewayKind(name);
    return kind ? [[name, rule(name, kind)]] : [];
  });
  return JSON.stringify(Object.fromEntries(entries));
}
