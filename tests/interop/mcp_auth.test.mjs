// The MCP TypeScript client's own credentials at our token endpoint: both
// generations of the SDK, with an MCP server over HTTP that takes our tokens.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { after, before, test } from 'node:test'
import * as jose from 'jose'
import * as two from '@modelcontextprotocol/client'
import * as oneAuth from '@modelcontextprotocol/sdk/client/auth.js'
import * as oneExtensions from '@modelcontextprotocol/sdk/client/auth-extensions.js'
import { Client as OneClient } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as OneTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { verified } from './clients.mjs'
import { api, newIssuer, url } from './postern.mjs'

const issuerUrl = `${url}/t/mcp-auth`
const generations = {
  'sdk 1': { ...oneAuth, ...oneExtensions, Client: OneClient, StreamableHTTPClientTransport: OneTransport },
  'client 2': two,
}

let resource // the URL of the MCP server
let secret
let issuer
let keys
const servers = []

async function listen(handler) {
  const server = createServer(handler)
  servers.push(server)
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${server.address().port}`
}
const json = (response, status, body, headers = {}) =>
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))

/// An MCP server as the specification has it: RFC 9728 metadata, a challenge, and
/// tokens of ours for itself alone. Its one tool says who called.
async function startMcpServer() {
  const origin = await listen(async (request, response) => {
    if (request.url === '/.well-known/oauth-protected-resource/mcp') {
      return json(response, 200, { resource, authorization_servers: [issuerUrl],
        scopes_supported: ['files:read'] })
    }
    const [, token] = request.headers.authorization?.match(/^Bearer (.+)$/) ?? []
    let payload
    try {
      payload = (await verified({ issuer: issuerUrl }, token ?? '', resource)).payload
    } catch {
      return json(response, 401, { error: 'unauthorized' }, {
        'www-authenticate': `Bearer resource_metadata="${origin}/.well-known/oauth-protected-resource/mcp"` })
    }
    request.auth = { token, clientId: payload.client_id, scopes: payload.scope?.split(' ') ?? [] }
    const server = new McpServer({ name: 'whoami', version: '1' })
    server.registerTool('whoami', { description: 'Who calls' }, () => ({
      content: [{ type: 'text', text: `${payload.sub} ${payload.scope}` }] }))
    const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined })
    response.on('close', () => server.close())
    await server.connect(transport)
    return transport.handleRequest(request, response)
  })
  return `${origin}/mcp`
}

before(async () => {
  resource = await startMcpServer()
  issuer = await newIssuer('https://idp.mcp-auth.example', {
    token_types: ['access_token', 'jwt', 'id_jag'] })
  keys = await jose.generateKeyPair('ES256', { extractable: true })
  const grants = ['token-exchange', 'client_credentials', 'jwt-bearer']
  const applied = await api('PUT', '/tenants/mcp-auth/manifest', {
    body: {
      tenant: 'mcp-auth',
      issuers: [issuer.registration],
      clients: [
        { id: 'gw-01', grants, backends: ['*'], scopes: ['*'] },
        {
          id: 'gw-key', grants, backends: ['*'], scopes: ['*'],
          authentication: { method: 'private_key_jwt', jwks: { keys: [await jose.exportJWK(keys.publicKey)] } },
        },
      ],
      backends: [{ name: 'files', audience: resource, scopes: ['files:read', 'files:write'] }],
      roles: [{ name: 'developer', allow: ['*:*'] }],
      bindings: [{ role: 'developer', groups: ['engineering'] }],
    },
  })
  secret = applied.client_secrets[0].client_secret
})
after(() => servers.forEach((server) => (server.closeAllConnections(), server.close())))

async function whoami(sdk, authProvider) {
  const client = new sdk.Client({ name: 'interop', version: '1' })
  await client.connect(new sdk.StreamableHTTPClientTransport(new URL(resource), { authProvider }))
  try {
    const { content } = await client.callTool({ name: 'whoami', arguments: {} })
    return content[0].text
  } finally {
    await client.close()
  }
}

for (const [name, sdk] of Object.entries(generations)) {
  const byKey = async (privateKey) =>
    new sdk.PrivateKeyJwtProvider({ clientId: 'gw-key', algorithm: 'ES256', expectedIssuer: issuerUrl,
      privateKey: await jose.exportPKCS8(privateKey), scope: 'files:read' })
  const bySecret = (clientSecret) =>
    new sdk.ClientCredentialsProvider({ clientId: 'gw-01', clientSecret, expectedIssuer: issuerUrl,
      scope: 'files:read' })

  test(`${name}: ClientCredentialsProvider reaches an MCP server with a token of ours`, async () => {
    assert.equal(await whoami(sdk, bySecret(secret)), 'gw-01 files:read')
  })

  test(`${name}: PrivateKeyJwtProvider does, with an assertion for our issuer`, async () => {
    assert.equal(await whoami(sdk, await byKey(keys.privateKey)), 'gw-key files:read')
  })

  test(`${name}: neither does with another secret or key`, async () => {
    const other = await jose.generateKeyPair('ES256', { extractable: true })
    await assert.rejects(whoami(sdk, bySecret('x'.repeat(43))), /client authentication failed/i)
    await assert.rejects(whoami(sdk, await byKey(other.privateKey)), /client authentication failed/i)
  })

  test(`${name}: fetchToken names the resource and reads the answer`, async () => {
    const metadata = await sdk.discoverAuthorizationServerMetadata(issuerUrl)
    const tokens = await sdk.fetchToken(bySecret(secret), issuerUrl, { metadata, resource: new URL(resource) })
    assert.equal(tokens.token_type, 'Bearer')
    const { payload } = await verified({ issuer: issuerUrl }, tokens.access_token, resource)
    assert.equal(payload.sub, 'gw-01')
    await assert.rejects(
      sdk.fetchToken(bySecret(secret), issuerUrl, { metadata, resource: new URL('https://elsewhere.example/mcp') }),
      /resource|target/i)
  })
}

// Enterprise-managed authorization: the user's provider issues the ID-JAG, we
// take it as a grant.

test('requestJwtAuthorizationGrant at the provider, exchangeJwtAuthGrant here', async () => {
  const tokenEndpoint = await listen(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const asked = new URLSearchParams(body)
    const grant = await issuer.token('alice', {
      aud: asked.get('audience'), resource: asked.get('resource'), scope: asked.get('scope'),
      client_id: 'gw-01', jti: crypto.randomUUID(),
    }, 'oauth-id-jag+jwt')
    json(response, 200, { access_token: grant, issued_token_type: asked.get('requested_token_type'),
      token_type: 'N_A', expires_in: 300 })
  })
  const granted = async () => (await two.requestJwtAuthorizationGrant({
    tokenEndpoint, audience: issuerUrl, resource, idToken: await issuer.token('alice'),
    clientId: 'host', clientSecret: 'at-the-provider', scope: 'files:read',
  })).jwtAuthGrant
  const exchange = (jwtAuthGrant, more = {}) => two.exchangeJwtAuthGrant({
    tokenEndpoint: `${issuerUrl}/token`, jwtAuthGrant, clientId: 'gw-01', clientSecret: secret, ...more })

  for (const authMethod of [undefined, 'client_secret_post']) {
    const jwtAuthGrant = await granted()
    const tokens = await exchange(jwtAuthGrant, { authMethod })
    const { payload } = await verified({ issuer: issuerUrl }, tokens.access_token, resource)
    assert.equal(payload.sub, 'alice')
    assert.equal(payload.client_id, 'gw-01')
    assert.equal(payload.scope, 'files:read')
    await assert.rejects(exchange(jwtAuthGrant), /invalid_grant/) // a second time
  }
  await assert.rejects(exchange(await granted(), { clientSecret: 'x'.repeat(43) }), /invalid_client/)
  await assert.rejects(exchange(await issuer.token('alice')), /invalid_grant/) // no ID-JAG
})

test('we issue no ID-JAG ourselves', async () => {
  await assert.rejects(two.requestJwtAuthorizationGrant({
    tokenEndpoint: `${issuerUrl}/token`, audience: issuerUrl, resource,
    idToken: await issuer.token('alice'), clientId: 'gw-01', clientSecret: secret,
  }), /invalid_request/)
})
