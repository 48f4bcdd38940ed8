/** The filters of a list in words. Test vectors in Node check this file, so it imports nothing of the page. */

/** The words, of the language that is shown. */
export interface FilterWords {
  language: string;
  /** By parameter; those that are not here are not told. */
  names: Record<string, string>;
  /** By parameter and value; other values are told as they are. */
  values: Record<string, Record<string, string>>;
  created: string;
  since: string;
  until: string;
  between: string;
}

/** A filter: what it filters by, and what is let through. */
export interface FilterInWords {
  name: string;
  value: string;
}

/** What a query lets through, filter by filter; nothing where it lets everything through. */
export function filtersInWords(
  query: Record<string, string | undefined>,
  words: FilterWords,
  fill: (text: string, values: Record<string, string>) => string,
): FilterInWords[] {
  const either = new Intl.ListFormat(words.language, { type: 'disjunction' });
  const filters = Object.entries(words.names).flatMap(([parameter, name]): FilterInWords[] => {
    const value = query[parameter];
    if (!value) return [];
    const known = words.values[parameter];
    if (!known) return [{ name, value }];
    return [{ name, value: either.format(value.split(',').map((one) => known[one] ?? one)) }];
  });
  const from = query.start_time ?? '';
  const to = query.end_time ?? '';
  if (from === '' && to === '') return filters;
  const range = to === '' ? words.since : from === '' ? words.until : words.between;
  return [
    ...filters,
    { name: words.created, value: from === to ? from : fill(range, { from, to }) },
  ];
}
