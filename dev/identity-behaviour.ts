/** What a test can make an issuer of the tests' identity provider do (identity-provider.ts). */
import type { JWTPayload } from 'jose';

/** What an issuer does otherwise than it should, or may. PUT to `/NAME/behaviour` as JSON. */
export interface Behaviour {
  /** Added to the metadata; null takes a property out. */
  metadata?: Record<string, unknown>;
  /** The status of the metadata. */
  metadataStatus?: number;
  /** Sent back instead of a code. */
  error?: string;
  /** The secret of the client, which then has to send it by Basic or in the body. */
  secret?: string;
  secretBy?: 'basic' | 'post';
  /** Added to the claims of the access token, and of the ID token. */
  claims?: JWTPayload;
  idToken?: JWTPayload;
  /** Added to the answer of the token endpoint; null takes a property out. */
  answer?: Record<string, unknown>;
  /** The status of the token endpoint, which then says nothing. */
  tokenStatus?: number;
}
