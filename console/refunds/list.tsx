/** To come. */
export function RefundListPage() {
  return null;
}
