// Introspection, plain and signed, and revocation by oauth4webapi; our signing
// keys rotated under jose, which fetches the key set when it meets a new kid.

import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import * as jose from 'jose'
import * as oauth from 'oauth4webapi'
import { backends, insecure, kFiles, metadataOf } from './clients.mjs'
import { api, eventually, onboard } from './postern.mjs'

let tenant, as, authenticate
before(async () => {
  tenant = await onboard('token-life', [], backends)
  as = await metadataOf(tenant.issuer)
  authenticate = oauth.ClientSecretBasic(tenant.secret)
})

const plain = { client_id: 'gw-01' }
const signed = { client_id: 'gw-01', introspection_signed_response_alg: 'RS256' }

async function issued() {
  const response = await oauth.clientCredentialsGrantRequest(
    as, plain, authenticate, new URLSearchParams({ resource: kFiles }), insecure)
  return (await oauth.processClientCredentialsResponse(as, plain, response)).access_token
}

async function introspected(who, token) {
  const response = await oauth.introspectionRequest(as, who, authenticate, token, insecure)
  const answer = await oauth.processIntrospectionResponse(as, who, response)
  if (who === signed) await oauth.validateApplicationLevelSignature(as, response, insecure)
  return answer
}

for (const [name, who] of [['plain', plain], ['signed (RFC 9701)', signed]]) {
  test(`a token is active until it is revoked: ${name}`, async () => {
    const token = await issued()
    const answer = await introspected(who, token)
    assert.equal(answer.active, true)
    assert.equal(answer.aud, kFiles)
    const response = await oauth.revocationRequest(as, plain, authenticate, token, insecure)
    assert.equal(await oauth.processRevocationResponse(response), undefined)
    assert.deepEqual(await introspected(who, token), { active: false })
  })
}

test('a verifier never meets a token that it cannot verify', async () => {
  const keys = jose.createRemoteJWKSet(new URL(as.jwks_uri), { cooldownDuration: 0 })
  const options = { issuer: tenant.issuer, audience: kFiles, typ: 'at+jwt' }
  const kid = async () => {
    const token = await issued()
    await jose.jwtVerify(token, keys, options)
    return jose.decodeProtectedHeader(token).kid
  }
  const first = await kid()
  const { items } = await api('POST', '/tenants/token-life/signing-keys/rotation', {
    body: { algorithm: 'ES256', publish_for: 10 },
  })
  assert.equal(await kid(), first)
  await eventually(async () => assert.equal(await kid(), items[0].kid))
})
