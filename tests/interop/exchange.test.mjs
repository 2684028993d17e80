// Subject tokens of npm oidc-provider, exchanged by oauth4webapi and by
// openid-client, the results verified by jose.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import * as jose from 'jose'
import * as oauth from 'oauth4webapi'
import * as client from 'openid-client'
import { backends, byOauth4webapi, byOpenidClient, insecure, kAccessToken, kFiles, kIdToken,
  metadataOf, subject, verified } from './clients.mjs'
import { startProvider } from './identity_provider.mjs'
import { onboard } from './postern.mjs'

const providers = {}
const tenants = {}
before(async () => {
  for (const alg of ['RS256', 'ES256']) {
    providers[alg] = await startProvider(alg)
    const keys =
      alg === 'RS256'
        ? { jwks_uri: `${providers[alg].issuer}/jwks` }
        : { discovery: true }
    tenants[alg] = await onboard(
      `interop-${alg.toLowerCase()}`,
      [
        {
          name: 'oidc-provider',
          issuer: providers[alg].issuer,
          ...keys,
          audiences: ['gw-01'],
          claims: { scope: 'scope' },
        },
      ],
      backends,
    )
  }
})
after(async () => {
  for (const provider of Object.values(providers)) await provider.stop()
})

const libraries = {
  'oauth4webapi, Basic': (tenant, parameters) => byOauth4webapi(tenant, parameters),
  'oauth4webapi, post': (tenant, parameters) =>
    byOauth4webapi(tenant, parameters, oauth.ClientSecretPost),
  'openid-client, post': (tenant, parameters) => byOpenidClient(tenant, parameters),
  'openid-client, Basic': (tenant, parameters) =>
    byOpenidClient(tenant, parameters, client.ClientSecretBasic),
}

for (const alg of ['RS256', 'ES256']) {
  for (const [library, exchange] of Object.entries(libraries)) {
    test(`${alg} subject token, exchanged by ${library}, verified by jose`, async () => {
      const tokens = await providers[alg].signIn('alice')
      assert.equal(jose.decodeProtectedHeader(tokens.access_token).alg, alg)
      const result = await exchange(tenants[alg], subject(tokens, { scope: 'files:read' }))

      assert.equal(result.issued_token_type, kAccessToken)
      assert.equal(result.token_type, 'bearer')
      assert.equal(result.scope, 'files:read')
      assert.ok(Number.isInteger(result.expires_in))
      assert.equal(result.refresh_token, undefined)
      const { payload, protectedHeader } = await verified(tenants[alg], result.access_token)
      assert.equal(payload.sub, 'alice')
      assert.equal(payload.aud, kFiles)
      assert.equal(payload.scope, 'files:read')
      assert.equal(payload.client_id, 'gw-01')
      assert.equal(protectedHeader.alg, 'ES256')
      assert.ok(payload.exp <= jose.decodeJwt(tokens.access_token).exp)
    })
  }

  test(`${alg} ID token as the subject`, async () => {
    const tokens = await providers[alg].signIn('bob')
    const result = await byOauth4webapi(tenants[alg], {
      subject_token: tokens.id_token,
      subject_token_type: kIdToken,
      audience: 'files-alias',
      scope: 'openid',
    })
    const { payload } = await verified(tenants[alg], result.access_token)
    assert.equal(payload.sub, 'bob')
    assert.equal(payload.scope, 'files:read files:write')
  })
}

test('each signing algorithm of ours is one that jose verifies', async () => {
  const tokens = await providers.ES256.signIn('alice')
  for (const [name, alg] of [['files', 'ES256'], ['rs', 'RS256'], ['ed', 'EdDSA']]) {
    const result = await byOauth4webapi(tenants.ES256, {
      subject_token: tokens.access_token,
      subject_token_type: kAccessToken,
      audience: name,
    })
    const audience = backends.find((backend) => backend.name === name).audience
    const { protectedHeader } = await verified(tenants.ES256, result.access_token, audience)
    assert.equal(protectedHeader.alg, alg)
  }
})

test('oauth4webapi as a backend accepts the token, and refuses it elsewhere', async () => {
  const tokens = await providers.ES256.signIn('alice')
  const { access_token } = await byOauth4webapi(tenants.ES256, subject(tokens))
  const as = await metadataOf(tenants.ES256.issuer)
  const request = () =>
    new Request(kFiles, { headers: { authorization: `Bearer ${access_token}` } })
  const claims = await oauth.validateJwtAccessToken(as, request(), kFiles, insecure)
  assert.equal(claims.sub, 'alice')
  await assert.rejects(
    oauth.validateJwtAccessToken(as, request(), 'https://rs.example.com/mcp', insecure))
})

test('refusals reach the libraries as OAuth errors', async () => {
  const tokens = await providers.ES256.signIn('alice')
  const refused = (parameters, code) => [
    assert.rejects(byOauth4webapi(tenants.ES256, parameters), (error) => {
      assert.ok(error instanceof oauth.ResponseBodyError)
      assert.equal(error.error, code)
      assert.ok(error.error_description)
      return true
    }),
    assert.rejects(byOpenidClient(tenants.ES256, parameters), (error) => {
      assert.equal(error.error, code)
      return true
    }),
  ]
  await Promise.all([
    ...refused(subject(tokens, { resource: 'https://elsewhere.example/mcp' }), 'invalid_target'),
    ...refused(subject(tokens, { scope: 'files:admin' }), 'invalid_scope'),
    ...refused(subject({ access_token: 'not.a.token' }), 'invalid_request'),
    ...refused(subject({ access_token: tokens.access_token.slice(0, -4) + 'AAAA' }), 'invalid_request'),
  ])
  // A token of one provider at the tenant of another.
  const foreign = await providers.RS256.signIn('alice')
  await Promise.all(refused(subject(foreign), 'invalid_request'))

  const impostor = { ...tenants.ES256, secret: 'x'.repeat(43) }
  await assert.rejects(byOauth4webapi(impostor, subject(tokens), oauth.ClientSecretPost),
    (error) => error.error === 'invalid_client' && error.status === 401)
  await assert.rejects(byOauth4webapi(impostor, subject(tokens)),
    (error) => error instanceof oauth.WWWAuthenticateChallengeError && error.status === 401)
})

test('a client acts for itself with oauth4webapi and with openid-client', async () => {
  const { issuer, secret } = tenants.RS256
  const as = await metadataOf(issuer)
  const who = { client_id: 'gw-01' }
  const response = await oauth.clientCredentialsGrantRequest(
    as, who, oauth.ClientSecretBasic(secret), { resource: kFiles, scope: 'files:read' }, insecure)
  const one = await oauth.processClientCredentialsResponse(as, who, response)
  const config = await client.discovery(new URL(issuer), 'gw-01', secret, undefined, {
    algorithm: 'oauth2',
    execute: [client.allowInsecureRequests],
  })
  const two = await client.clientCredentialsGrant(config, { resource: kFiles, scope: 'files:read' })
  for (const { access_token } of [one, two]) {
    assert.equal((await verified(tenants.RS256, access_token)).payload.sub, 'gw-01')
  }
})
