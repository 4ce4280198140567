-- What a signing key signs: tokens of the built-in issuer, or those that tell upstreams who sent a request.
ALTER TABLE signing_keys ADD COLUMN purpose TEXT NOT NULL DEFAULT 'issuer';
