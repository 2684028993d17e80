// A real MCP server, spawned by the MCP SDK's client through `postern exec`:
// what it finds in its environment is what was declared, and nothing else.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import * as jose from 'jose'
import { discoverAuthorizationServerMetadata } from '@modelcontextprotocol/sdk/client/auth.js'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { api, onboard, programs, url } from './postern.mjs'

const kEverything = createRequire(import.meta.url).resolve(
  '@modelcontextprotocol/server-everything/dist/index.js')
const kIssuer = 'https://idp.mcp.example'
const kInherited = ['PATH', 'HOME', 'USER', 'LOGNAME', 'SHELL', 'LANG', 'LANGUAGE', 'TERM', 'TZ',
  'TMPDIR', 'XDG_RUNTIME_DIR']

const directory = mkdtempSync(join(tmpdir(), 'postern-interop-'))
const file = (name, content) => {
  const path = join(directory, name)
  writeFileSync(path, content + '\n', { mode: 0o600 })
  return path
}
let tenant
let key

before(async () => {
  const pair = await jose.generateKeyPair('ES256', { extractable: true })
  key = pair.privateKey
  const jwk = { ...(await jose.exportJWK(pair.publicKey)), kid: 'k1', alg: 'ES256', use: 'sig' }
  tenant = await onboard(
    'mcp',
    [{ name: 'idp', issuer: kIssuer, jwks: { keys: [jwk] }, audiences: ['gw-01'] }],
    [
      {
        name: 'github',
        audience: 'https://github.example.com/mcp',
        answer: 'vaulted',
        credential: { name: 'github', owner: 'principal' },
        delivery: {
          env: { GITHUB_PERSONAL_ACCESS_TOKEN: '{token}', GITHUB_HOST: 'https://{host}' },
          files: [{ name: 'gh.json', env: 'GITHUB_CONFIG_FILE', content: '{{"t":"{token}"}}' }],
        },
      },
      {
        name: 'files',
        audience: 'https://files.example.com/mcp',
        scopes: ['files:read', 'files:write'],
        delivery: { env: { FILES_TOKEN: '{access_token}' } },
      },
    ],
  )
  file('client.secret', tenant.secret)
  for (const user of ['alice', 'bob']) {
    const token = await userToken(user)
    file(`${user}.token`, token)
    await api('PUT', '/tenants/mcp/credentials/github', {
      token,
      body: { fields: { token: `ghp_of_${user}`, host: `${user}.ghe.example` } },
    })
  }
})
after(() => rmSync(directory, { recursive: true, force: true }))

const userToken = (user) =>
  new jose.SignJWT({ groups: ['engineering'] })
    .setProtectedHeader({ alg: 'ES256', kid: 'k1', typ: 'JWT' })
    .setIssuer(kIssuer).setSubject(user).setAudience('gw-01')
    .setIssuedAt().setExpirationTime('10m')
    .sign(key)

/// The environment of a gateway with secrets of its own in it.
const parent = (user) => ({
  ...process.env,
  LANG: 'C.UTF-8',
  LC_ALL: 'C.UTF-8',
  AWS_SECRET_ACCESS_KEY: 'canary-aws',
  OPENAI_API_KEY: 'canary-openai',
  NODE_OPTIONS: '--no-warnings',
  LD_LIBRARY_PATH: '/canary',
  http_proxy: '',
  PASSED_ON: 'on purpose',
  POSTERN_URL: url,
  POSTERN_TENANT: 'mcp',
  POSTERN_CLIENT_ID: 'gw-01',
  POSTERN_CLIENT_SECRET_FILE: join(directory, 'client.secret'),
  POSTERN_SUBJECT_TOKEN_FILE: join(directory, `${user}.token`),
})

async function environmentSeenBy(user, backends, options = []) {
  const environment = parent(user)
  const transport = new StdioClientTransport({
    command: join(programs, 'postern'),
    args: ['exec', backends, ...options, '--', process.execPath, kEverything, 'stdio'],
    env: environment,
    stderr: 'pipe',
  })
  let noise = ''
  transport.stderr.on('data', (data) => (noise += data))
  const mcp = new Client({ name: 'interop', version: '1' })
  try {
    await mcp.connect(transport)
  } catch (error) {
    throw new Error(`${error.message}: ${noise}`)
  }
  try {
    const { tools } = await mcp.listTools()
    const tool = tools.find(({ name }) => ['get-env', 'printEnv'].includes(name)).name
    const { content } = await mcp.callTool({ name: tool, arguments: {} })
    const echoed = await mcp.callTool({ name: 'echo', arguments: { message: 'over stdio' } })
    assert.match(echoed.content[0].text, /over stdio/)
    return JSON.parse(content[0].text)
  } finally {
    await mcp.close()
  }
}

/// What exec documents to pass on, as far as this parent has it.
const inherited = (environment) =>
  Object.fromEntries(Object.entries(environment)
    .filter(([name]) => kInherited.includes(name) || name.startsWith('LC_')))

for (const user of ['alice', 'bob']) {
  test(`a server spawned for ${user} sees the declared variables and no others`, async () => {
    const seen = await environmentSeenBy(user, 'github')
    assert.match(seen.GITHUB_CONFIG_FILE, /^\/proc\/self\/fd\/\d+$/)
    const { GITHUB_CONFIG_FILE: _, ...rest } = seen
    assert.deepEqual(rest, {
      ...inherited(parent(user)),
      GITHUB_PERSONAL_ACCESS_TOKEN: `ghp_of_${user}`,
      GITHUB_HOST: `https://${user}.ghe.example`,
    })
  })
}

test('several backends, a narrower scope and a variable passed on purpose', async () => {
  const seen = await environmentSeenBy('alice', 'github,files', [
    '--scope', 'files=files:read', '--pass', 'PASSED_ON'])
  assert.equal(seen.PASSED_ON, 'on purpose')
  const keys = jose.createRemoteJWKSet(new URL(`${tenant.issuer}/jwks`))
  const { payload } = await jose.jwtVerify(seen.FILES_TOKEN, keys, {
    issuer: tenant.issuer, audience: 'https://files.example.com/mcp', typ: 'at+jwt' })
  assert.equal(payload.scope, 'files:read')
  assert.equal(payload.sub, 'alice')
  const expected = new Set([...Object.keys(inherited(parent('alice'))), 'PASSED_ON', 'FILES_TOKEN',
    'GITHUB_PERSONAL_ACCESS_TOKEN', 'GITHUB_HOST', 'GITHUB_CONFIG_FILE'])
  assert.deepEqual(new Set(Object.keys(seen)), expected)
})

test('a refused backend spawns nothing and says why', async () => {
  const run = promisify(execFile)(
    join(programs, 'postern'), ['exec', 'nowhere', '--', process.execPath, '-e', 'console.log(1)'],
    { env: parent('alice') })
  await assert.rejects(run, (error) => {
    assert.equal(error.code, 77)
    assert.equal(error.stdout, '')
    assert.match(error.stderr, /nowhere is refused/)
    return true
  })
})

test('the MCP SDK discovers the authorization server', async () => {
  const metadata = await discoverAuthorizationServerMetadata(new URL(tenant.issuer))
  assert.equal(metadata.issuer, tenant.issuer)
  assert.ok(metadata.token_endpoint_auth_methods_supported.includes('client_secret_basic'))
})

test('the MCP conformance suite accepts the metadata endpoint', async () => {
  const suite = join(import.meta.dirname, 'node_modules/@modelcontextprotocol/conformance/dist/index.js')
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [suite, 'authorization', '--url', tenant.issuer,
      '--scenario', 'authorization-server-metadata-endpoint'],
    { cwd: directory })
  assert.doesNotMatch(stdout, /[1-9]\d* failed/)
  assert.match(stdout, /passed/i)
})
