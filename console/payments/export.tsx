/** The export of the payments of a filter. */
import { withQuery } from '../router';
import { texts } from '../texts';

/** Downloads the payments of the list's address. */
export function ExportButton({ query, total }: { query: Record<string, string>; total: number }) {
  const { page: _, cursor: __, size: ___, ...filter } = query;
  return (
    <a class="button" href={withQuery('/payments/export', filter)} download data-total={total}>
      {texts.value.list.export}
    </a>
  );
}
