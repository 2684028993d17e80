// Opaque access tokens of npm oidc-provider: Postern asks about them at the
// introspection endpoint (RFC 7662) and exchanges them as it does JWTs.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { backends, byOauth4webapi, kFiles, subject, verified } from './clients.mjs'
import { introspector, startProvider } from './identity_provider.mjs'
import { api, onboard } from './postern.mjs'

const kJwt = 'urn:ietf:params:oauth:token-type:jwt'

let provider
let tenant
before(async () => {
  provider = await startProvider('ES256', 'opaque')
  const name = 'interop-opaque'
  tenant = await onboard(
    name,
    [
      {
        name: 'oidc-provider',
        issuer: provider.issuer,
        introspection: {
          endpoint: `${provider.issuer}/token/introspection`,
          client_id: introspector.id,
          credential: 'introspection',
          cache_for: 0,
        },
        audiences: ['gw-01'],
        claims: { scope: 'scope' },
      },
    ],
    backends,
  )
  await api('PUT', `/tenants/${name}/credentials/introspection`, {
    body: { fields: { client_secret: introspector.secret } },
  })
})
after(() => provider.stop())

const refused = (parameters) =>
  assert.rejects(byOauth4webapi(tenant, parameters), (error) => {
    assert.equal(error.error, 'invalid_request')
    assert.equal(error.status, 400)
    return true
  })

test('an opaque access token is exchanged', async () => {
  const tokens = await provider.signIn('alice')
  assert.ok(!tokens.access_token.includes('.'))
  const result = await byOauth4webapi(tenant, subject(tokens, { scope: 'files:read' }))
  const { payload } = await verified(tenant, result.access_token)
  assert.equal(payload.sub, 'alice')
  assert.equal(payload.aud, kFiles)
  assert.equal(payload.scope, 'files:read')
  assert.ok(result.expires_in <= 300)
})

test('it is refused by another name, altered, and once it is revoked', async () => {
  const tokens = await provider.signIn('bob')
  await refused({ ...subject(tokens), subject_token_type: kJwt })
  await refused(subject({ access_token: tokens.access_token.slice(0, -1) + 'A' + 'B' }))
  await refused(subject({ access_token: introspector.secret.replaceAll(/[^a-z]/g, '') }))
  await byOauth4webapi(tenant, subject(tokens))
  await provider.revoke(tokens.access_token)
  await refused(subject(tokens))
})

test('with a wrong secret at the provider nothing is issued', async () => {
  const tokens = await provider.signIn('carol')
  await api('PUT', '/tenants/interop-opaque/credentials/introspection', {
    body: { fields: { client_secret: 'x'.repeat(40) } },
  })
  await assert.rejects(byOauth4webapi(tenant, subject(tokens)), (error) => error.cause?.status === 503)
  await api('PUT', '/tenants/interop-opaque/credentials/introspection', {
    body: { fields: { client_secret: introspector.secret } },
  })
})
