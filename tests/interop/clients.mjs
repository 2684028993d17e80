// The two OAuth client libraries at our token endpoint, and jose as a backend.

import * as jose from 'jose'
import * as oauth from 'oauth4webapi'
import * as client from 'openid-client'

export const kExchange = 'urn:ietf:params:oauth:grant-type:token-exchange'
export const kAccessToken = 'urn:ietf:params:oauth:token-type:access_token'
export const kIdToken = 'urn:ietf:params:oauth:token-type:id_token'
export const kFiles = 'https://files.example.com/mcp'
// Loopback is plain http: the libraries want that said on every call.
export const insecure = { [oauth.allowInsecureRequests]: true }

export const backends = [
  {
    name: 'files',
    audience: kFiles,
    aliases: ['files-alias'],
    scopes: ['files:read', 'files:write'],
  },
  {
    name: 'rs',
    audience: 'https://rs.example.com/mcp',
    scopes: ['files:read'],
    signing_algorithm: 'RS256',
  },
  {
    name: 'ed',
    audience: 'https://ed.example.com/mcp',
    scopes: ['files:read'],
    signing_algorithm: 'EdDSA',
  },
]

export async function metadataOf(issuer) {
  const url = new URL(issuer)
  const response = await oauth.discoveryRequest(url, { algorithm: 'oauth2', ...insecure })
  return oauth.processDiscoveryResponse(url, response)
}

export async function byOauth4webapi({ issuer, secret }, parameters, authenticate = oauth.ClientSecretBasic) {
  const as = await metadataOf(issuer)
  const who = { client_id: 'gw-01' }
  const response = await oauth.genericTokenEndpointRequest(
    as, who, authenticate(secret), kExchange, parameters, insecure)
  return oauth.processGenericTokenEndpointResponse(as, who, response)
}

export async function byOpenidClient({ issuer, secret }, parameters, authenticate) {
  const config = await client.discovery(new URL(issuer), 'gw-01', secret, authenticate?.(secret), {
    algorithm: 'oauth2',
    execute: [client.allowInsecureRequests],
  })
  return client.genericGrantRequest(config, kExchange, parameters)
}

/// As a backend does: remote key set, issuer, audience, typ.
export async function verified({ issuer }, token, audience = kFiles) {
  const metadata = await metadataOf(issuer)
  const keys = jose.createRemoteJWKSet(new URL(metadata.jwks_uri))
  return jose.jwtVerify(token, keys, {
    issuer,
    audience,
    typ: 'at+jwt',
    requiredClaims: ['exp', 'sub', 'iat', 'jti', 'client_id'],
  })
}

export const subject = (tokens, more = {}) => ({
  subject_token: tokens.access_token,
  subject_token_type: kAccessToken,
  resource: kFiles,
  ...more,
})
