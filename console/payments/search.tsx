/** One box for every number. One payment: its detail. Several: all of them. None: what was searched. */
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { get } from '../api';
import { offset } from '../format';
import { SearchIcon } from '../icons';
import { useKeys } from '../keys';
import {
  Fill,
  Foreign,
  Heading,
  Identifier,
  Money,
  PaymentStatus,
  ReadFailure,
  Time,
} from '../parts';
import { useGet } from '../resource';
import { go, place, withQuery } from '../router';
import { zone } from '../session';
import { fill, texts } from '../texts';
import type { Lookup } from '../types';

const pathOf = (number: string) => withQuery('/lookup', { number });

/** The box in the bar. */
export function Search() {
  const { search } = texts.value;
  const box = useRef<HTMLInputElement>(null);
  const busy = useSignal(false);
  useKeys({
    '/': () => {
      box.current?.focus();
      box.current?.select();
    },
  });

  const find = async (event: Event) => {
    event.preventDefault();
    const number = box.current?.value.trim() ?? '';
    const from = place.peek();
    if (number === '' || busy.value) return;
    busy.value = true;
    // The next number can be pasted over it.
    box.current?.select();
    try {
      const found = await get<Lookup>(pathOf(number)).catch(() => undefined);
      // Whoever has gone on, or is typing in a dialogue, is not carried away by a late answer.
      if (place.peek() !== from || document.querySelector('dialog[open]')) return;
      const [only, ...others] = found?.data.list ?? [];
      // What went wrong, none and several are shown by the page.
      if (only && others.length === 0) {
        // The keys of the page are wanted next: `r` refunds.
        box.current?.blur();
        go(`/console/payments/${only.payment.id}`);
      } else go(withQuery('/console/search', { number }));
    } finally {
      busy.value = false;
    }
  };
  return (
    <search class="search">
      <form onSubmit={find}>
        <SearchIcon />
        <input
          ref={box}
          id="search"
          type="text"
          inputMode="search"
          autocomplete="off"
          spellcheck={false}
          onFocus={(event) => event.currentTarget.select()}
          aria-label={search.label}
          aria-keyshortcuts="/"
          aria-busy={busy.value}
          placeholder={search.placeholder}
        />
        <span class="key" aria-hidden="true">
          /
        </span>
      </form>
    </search>
  );
}

/** /console/search?number=… */
export function SearchPage() {
  const { search, list, detail, title } = texts.value;
  const number = place.value.searchParams.get('number') ?? '';
  const { answer, failure, busy, reload } = useGet<Lookup>(pathOf(number));
  const found = answer?.data;
  useEffect(() => {
    document.title = `${search.title} ${number} · ${title}`;
  }, [search, number, title]);
  const none = found?.list.length === 0;
  useEffect(() => {
    if (!none) return;
    const box = document.querySelector<HTMLInputElement>('#search');
    box?.focus();
    box?.select();
  }, [none]);
  if (failure) return <ReadFailure failure={failure} stale={found !== undefined} reload={reload} />;
  if (!found) return busy ? <p class="muted">{texts.value.common.loading}</p> : null;
  if (none) {
    return (
      <section class="nothing">
        <Heading>
          <Fill text={search.none} number={<Foreign text={found.number} />} />
        </Heading>
        <p class="muted">{search.searched}</p>
      </section>
    );
  }
  return (
    <>
      <Heading>
        <Fill
          text={search.several}
          number={<Foreign text={found.number} />}
          count={found.list.length}
        />
      </Heading>
      <div class="table cards">
        <table>
          <thead>
            <tr>
              <th scope="col">{search.kind}</th>
              <th scope="col">{list.columns.paymentNo}</th>
              <th scope="col">{list.columns.orderNo}</th>
              <th scope="col">{fill(list.columns.created, { zone: offset(zone()) })}</th>
              <th scope="col" class="amount">
                {list.columns.amount}
              </th>
              <th scope="col">{list.columns.status}</th>
            </tr>
          </thead>
          <tbody>
            {found.list.map(({ kind, payment }) => (
              <tr key={payment.id}>
                <td class="o-7" data-label={search.kind}>
                  {search.kinds[kind] ?? kind}
                </td>
                <td class="o-1">
                  <Identifier
                    text={payment.payment_no}
                    what={detail.field.payment_no}
                    href={`/console/payments/${payment.id}`}
                  />
                </td>
                <td class="o-3">
                  {payment.order_no && (
                    <Identifier text={payment.order_no} what={detail.field.order_no} />
                  )}
                </td>
                <td class="o-5">
                  <Time at={payment.created_at} />
                </td>
                <td class="amount o-2 end-of-card">
                  <Money amount={payment.amount} />
                </td>
                <td class="o-4 end-of-card">
                  <PaymentStatus status={payment.status} refunded={payment.refunded_amount} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}
