// google-auth-library as it is: its RFC 8693 client, and workload identity
// federation (external_account) with our token endpoint as the token_url.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { ExternalAccountClient } from 'google-auth-library'
import { StsCredentials } from 'google-auth-library/build/src/auth/stscredentials.js'
import { backends, kAccessToken, kExchange, kFiles, verified } from './clients.mjs'
import { newIssuer, onboard } from './postern.mjs'

const kJwt = 'urn:ietf:params:oauth:token-type:jwt'
const directory = mkdtempSync(join(tmpdir(), 'postern-interop-'))
let tenant
let issuer
before(async () => {
  issuer = await newIssuer('https://idp.google.example')
  tenant = await onboard('google', [issuer.registration], backends)
})
after(() => rmSync(directory, { recursive: true, force: true }))

const sts = (confidentialClientType, clientSecret = tenant.secret) =>
  new StsCredentials({
    tokenExchangeEndpoint: `${tenant.issuer}/token`,
    clientAuthentication: { confidentialClientType, clientId: 'gw-01', clientSecret },
  })
const request = async (more = {}) => ({
  grantType: kExchange,
  subjectToken: await issuer.token('alice'),
  subjectTokenType: kJwt,
  requestedTokenType: kAccessToken,
  audience: 'files',
  ...more,
})

for (const how of ['basic', 'request-body']) {
  test(`StsCredentials exchanges a token (${how})`, async () => {
    const result = await sts(how).exchangeToken(
      await request({ resource: kFiles, scope: ['files:read'] }),
      {},
      { userProject: 'ignored' }, // Google's own parameter `options`
    )
    assert.equal(result.token_type, 'Bearer')
    assert.equal(result.issued_token_type, kAccessToken)
    assert.ok(Number.isInteger(result.expires_in) && result.expires_in <= 300)
    const { payload } = await verified(tenant, result.access_token)
    assert.equal(payload.sub, 'alice')
    assert.equal(payload.scope, 'files:read')
  })
}

test('StsCredentials names an acting party', async () => {
  const result = await sts('basic').exchangeToken(
    await request({ actingParty: { actorToken: await issuer.token('robot'), actorTokenType: kJwt } }))
  const { payload } = await verified(tenant, result.access_token)
  assert.equal(payload.act.sub, 'robot')
})

test('StsCredentials reads our refusals', async () => {
  const refused = (code, attempt) => assert.rejects(attempt, new RegExp(`Error code ${code}\\b`))
  const ask = async (more) => sts('basic').exchangeToken(await request(more))
  await refused('invalid_target', ask({ audience: 'nowhere' }))
  await refused('invalid_scope', ask({ scope: ['files:admin'] }))
  await refused('invalid_request', ask({ subjectToken: 'not.a.token' }))
  await refused('invalid_client',
    sts('basic', 'x'.repeat(43)).exchangeToken(await request()))
})

const federation = (user, token) => {
  const file = join(directory, `${user}.token`)
  writeFileSync(file, token)
  return ExternalAccountClient.fromJSON({
    type: 'external_account',
    audience: 'files',
    subject_token_type: kJwt,
    token_url: `${tenant.issuer}/token`,
    client_id: 'gw-01',
    client_secret: tenant.secret,
    credential_source: { file },
    scopes: ['files:read'],
  })
}

test('an external account gets its access token from us', async () => {
  const { token } = await federation('alice', await issuer.token('alice')).getAccessToken()
  const { payload } = await verified(tenant, token)
  assert.equal(payload.sub, 'alice')
  assert.equal(payload.scope, 'files:read')
})

test('an external account with a bad token gets none', async () => {
  await assert.rejects(federation('mallory', 'not.a.token').getAccessToken(), /invalid_request/)
})
