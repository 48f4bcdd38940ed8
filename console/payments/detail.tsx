/** To come. */
export function PaymentDetailPage(_: { id?: string }) {
  return null;
}
