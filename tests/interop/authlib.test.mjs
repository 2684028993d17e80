// Python's Authlib, as Debian packages it: client authentication, exchange,
// introspection, revocation, and our tokens in its JOSE.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { before, test } from 'node:test'
import * as jose from 'jose'
import { kAccessToken, kFiles, metadataOf } from './clients.mjs'
import { api, newIssuer, url } from './postern.mjs'

const issuerUrl = `${url}/t/authlib`
let issuer
let secret
let privateKey
before(async () => {
  issuer = await newIssuer('https://idp.authlib.example', { token_types: ['access_token', 'jwt', 'jwt_bearer'] })
  const keys = await jose.generateKeyPair('ES256', { extractable: true })
  privateKey = await jose.exportPKCS8(keys.privateKey)
  const grants = ['token-exchange', 'client_credentials', 'jwt-bearer']
  const applied = await api('PUT', '/tenants/authlib/manifest', {
    body: {
      tenant: 'authlib',
      issuers: [issuer.registration],
      clients: [
        { id: 'gw-01', grants, backends: ['*'], scopes: ['*'] },
        {
          id: 'gw-key', grants, backends: ['*'], scopes: ['*'],
          audiences: ['gw-01'],
          authentication: { method: 'private_key_jwt', jwks: { keys: [await jose.exportJWK(keys.publicKey)] } },
        },
      ],
      backends: ['ES256', 'RS256'].map((algorithm) => ({
        name: `b-${algorithm.toLowerCase()}`,
        audience: algorithm === 'ES256' ? kFiles : 'https://rs.example.com/mcp',
        scopes: ['files:read'],
        signing_algorithm: algorithm,
      })),
      roles: [{ name: 'developer', allow: ['*:*'] }],
      bindings: [{ role: 'developer', groups: ['engineering'] }],
    },
  })
  secret = applied.client_secrets[0].client_secret
})

/// Debian's Python: another one on the PATH has no Authlib.
function authlib(action, parameters) {
  return new Promise((resolve, reject) => {
    const program = join(import.meta.dirname, 'authlib_client.py')
    const child = execFile('/usr/bin/python3', [program, action], (error, stdout, stderr) =>
      error ? reject(new Error(stderr)) : resolve(JSON.parse(stdout)))
    child.stdin.end(JSON.stringify({ issuer: issuerUrl, client_id: 'gw-01', client_secret: secret, ...parameters }))
  })
}
const byKey = (more = {}) => ({ client_id: 'gw-key', private_key: privateKey, ...more })
const parameters = async (more = {}) => ({
  subject_token: await issuer.token('alice'),
  subject_token_type: kAccessToken,
  resource: kFiles,
  ...more,
})
async function verified(token, audience = kFiles) {
  const keys = await (await fetch((await metadataOf(issuerUrl)).jwks_uri)).json()
  return authlib('verify', { token, keys, audience })
}

const ways = {
  'client_secret_basic': () => ({}),
  'client_secret_post': () => ({ method: 'client_secret_post' }),
  'private_key_jwt': byKey,
}
for (const [way, credentials] of Object.entries(ways)) {
  test(`Authlib exchanges a token by ${way} and verifies what it gets`, async () => {
    const token = await authlib('exchange', { ...credentials(), parameters: await parameters() })
    assert.equal(token.token_type, 'Bearer')
    assert.equal(token.issued_token_type, kAccessToken)
    assert.equal(typeof token.expires_at, 'number') // it adds this from expires_in
    const { header, claims } = await verified(token.access_token)
    assert.equal(header.typ, 'at+jwt')
    assert.equal(claims.sub, 'alice')
  })

  test(`Authlib acts for itself by ${way}`, async () => {
    const token = await authlib('fetch', { ...credentials(),
      parameters: { grant_type: 'client_credentials', audience: 'b-rs256' } })
    const { header } = await verified(token.access_token, 'https://rs.example.com/mcp')
    assert.equal(header.alg, 'RS256')
    assert.equal((await verified(token.access_token)).error, 'invalid_claim') // for another backend
  })
}

test('Authlib reads our refusals', async () => {
  const code = async (action, more) => (await authlib(action, more)).error
  assert.equal(await code('exchange', { parameters: await parameters({ resource: 'https://x.example/' }) }),
    'invalid_target')
  assert.equal(await code('exchange', { parameters: await parameters({ subject_token: 'not.a.token' }) }),
    'invalid_request')
  assert.equal(await code('exchange', { client_secret: 'x'.repeat(43), parameters: await parameters() }),
    'invalid_client')
  // An assertion for an hour, to the token endpoint: what it makes unless told otherwise.
  assert.equal(await code('exchange', { ...byKey({ stock: true }), parameters: await parameters() }),
    'invalid_client')
})

test('Authlib introspects and revokes', async () => {
  const { access_token: token } = await authlib('exchange', { parameters: await parameters() })
  const answer = await authlib('introspect', { token })
  assert.equal(answer.active, true)
  assert.equal(answer.sub, 'alice')
  assert.deepEqual(await authlib('revoke', { token }), { status: 200 })
  assert.deepEqual(await authlib('introspect', { token }), { active: false })
})
