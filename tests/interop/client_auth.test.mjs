// oauth4webapi authenticates with private_key_jwt and binds tokens with DPoP,
// nonces included; what it demands of the answers decides.

import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import * as jose from 'jose'
import * as oauth from 'oauth4webapi'
import { insecure, kExchange, kFiles, metadataOf, subject, verified } from './clients.mjs'
import { api, newIssuer, url } from './postern.mjs'

const algorithms = ['ES256', 'RS256', 'PS256', 'Ed25519']
const tenant = { issuer: `${url}/t/client-auth` }
const keys = {}
let issuer
let as
before(async () => {
  issuer = await newIssuer('https://idp.client-auth.example')
  const clients = [{ id: 'gw-01', backends: ['*'], scopes: ['*'] }]
  for (const alg of algorithms) {
    keys[alg] = await jose.generateKeyPair(alg, { extractable: true })
    clients.push({
      id: `key-${alg.toLowerCase()}`, backends: ['*'], scopes: ['*'], audiences: ['gw-01'],
      authentication: { method: 'private_key_jwt', jwks: { keys: [await jose.exportJWK(keys[alg].publicKey)] } },
    })
  }
  const applied = await api('PUT', '/tenants/client-auth/manifest', {
    body: {
      tenant: 'client-auth',
      issuers: [issuer.registration],
      clients,
      backends: [{ name: 'files', audience: kFiles, scopes: ['files:read'] }],
      roles: [{ name: 'developer', allow: ['*:*'] }],
      bindings: [{ role: 'developer', groups: ['engineering'] }],
    },
  })
  tenant.secret = applied.client_secrets[0].client_secret
  as = await metadataOf(tenant.issuer)
})

async function exchange(client_id, authenticate, options = {}) {
  const who = { client_id }
  const parameters = subject({ access_token: await issuer.token('alice') })
  const response = await oauth.genericTokenEndpointRequest(
    as, who, authenticate, kExchange, parameters, { ...insecure, ...options })
  return oauth.processGenericTokenEndpointResponse(as, who, response)
}

for (const alg of algorithms) {
  const id = `key-${alg.toLowerCase()}`
  test(`private_key_jwt with ${alg}`, async () => {
    const result = await exchange(id, oauth.PrivateKeyJwt(keys[alg].privateKey))
    const { payload } = await verified(tenant, result.access_token)
    assert.equal(payload.client_id, id)
  })

  test(`another key with ${alg} is refused`, async () => {
    const { privateKey } = await jose.generateKeyPair(alg)
    await assert.rejects(exchange(id, oauth.PrivateKeyJwt(privateKey)),
      (error) => error.error === 'invalid_client' && error.status === 401)
  })
}

for (const alg of ['ES256', 'Ed25519']) {
  test(`DPoP with ${alg} binds what is issued`, async () => {
    const pair = await oauth.generateKeyPair(alg)
    const DPoP = oauth.DPoP({ client_id: 'gw-01' }, pair)
    const result = await exchange('gw-01', oauth.ClientSecretBasic(tenant.secret), { DPoP })
    assert.equal(result.token_type, 'dpop')
    const { payload } = await verified(tenant, result.access_token)
    assert.equal(payload.cnf.jkt, await jose.calculateJwkThumbprint(await jose.exportJWK(pair.publicKey)))
  })
}

test('a backend that uses oauth4webapi takes a bound token with its proof alone', async () => {
  const pair = await oauth.generateKeyPair('ES256')
  const DPoP = oauth.DPoP({ client_id: 'gw-01' }, pair)
  const { access_token: token } = await exchange('gw-01', oauth.ClientSecretBasic(tenant.secret), { DPoP })
  let request
  await oauth.protectedResourceRequest(token, 'GET', new URL(kFiles), undefined, undefined, {
    DPoP,
    [oauth.customFetch]: async (target, init) => {
      request = new Request(target, init)
      return new Response()
    },
  })
  const claims = await oauth.validateJwtAccessToken(as, request, kFiles, insecure)
  assert.equal(claims.sub, 'alice')
  const stolen = new Request(kFiles, { headers: { authorization: `Bearer ${token}` } })
  await assert.rejects(oauth.validateJwtAccessToken(as, stolen, kFiles, insecure))
})
