// Vault's own clients, as they are: npm's node-vault, Debian's hvac, and the
// requests of Go's client, of the vault command and of External Secrets.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import nodeVault from 'node-vault'
import { api, newIssuer, url } from './postern.mjs'

const namespace = 'vault-clients'
const pod = 'system:serviceaccount:mcp:pod'
let issuer
let admin
let secret
let gatewaySecret
const asUser = (sub, name) => issuer.token(sub, { preferred_username: name })
before(async () => {
  issuer = await newIssuer('https://idp.vault.example')
  const client = { backends: ['shared-db'], scopes: ['*'], grants: ['client_credentials'] }
  const applied = await api('PUT', `/tenants/${namespace}/manifest`, {
    body: {
      tenant: namespace,
      settings: {
        reveal: true,
        vault_api: {
          clients: ['gw-01', 'pod', 'gateway'],
          views: [
            { path: 'mcp-gateway/{sub}', backend: 'github' },
            { path: '{preferred_username}/{backend}' },
          ],
          transit: {
            rules: [{
              clients: ['gw-01'], keys: ['*'],
              operations: ['encrypt', 'decrypt', 'rewrap', 'sign', 'verify', 'hmac', 'datakey'],
            }],
          },
        },
      },
      issuers: [issuer.registration],
      clients: [
        { id: 'gw-01', ...client },
        {
          id: 'pod', ...client,
          authentication: {
            method: 'workload_identity',
            workload: { issuer: 'idp', audience: 'gw-01', claims: { sub: [pod] } },
          },
        },
        {
          id: 'gateway', backends: ['github'], scopes: ['*'], grants: ['token-exchange'], audiences: ['gw-01'],
        },
      ],
      backends: [
        {
          name: 'shared-db', audience: 'https://db.vault.example/mcp', answer: 'vaulted',
          credential: { name: 'shared-db', owner: 'tenant' },
          delivery: { env: { DATABASE_URL: '{url}' } },
        },
        {
          name: 'github', audience: 'https://github.vault.example/mcp', answer: 'vaulted',
          credential: { name: 'github', owner: 'principal' },
          delivery: { env: { GITHUB_TOKEN: '{token}' } },
        },
      ],
      roles: [{ name: 'developer', allow: ['github:*'] }],
      bindings: [{ role: 'developer', groups: ['engineering'] }],
    },
  })
  const secretOf = (id) => applied.client_secrets.find((each) => each.client === id).client_secret
  secret = secretOf('gw-01')
  gatewaySecret = secretOf('gateway')
  admin = (await api('POST', `/tenants/${namespace}/admin-tokens`, { body: {} })).token
  for (const [name, fields] of [['shared-db', { url: 'postgres://shared' }], ['other', { token: 'x' }]]) {
    await api('PUT', `/tenants/${namespace}/credentials/${name}`, { body: { fields } })
  }
  for (const [sub, name] of [['1000', 'alice'], ['2000', 'bob']]) {
    await api('PUT', `/tenants/${namespace}/credentials/github`, {
      token: await asUser(sub, name), body: { fields: { token: `of ${name}` } },
    })
  }
})

describe('node-vault', () => {
  const vault = (more = {}) => nodeVault({ endpoint: url, namespace, token: admin, ...more })
  const status = async (call) => (await call.then(() => assert.fail('not refused'), (error) => error)).response

  it('writes, reads, patches, lists, deletes, brings back and destroys', async () => {
    const client = vault()
    const written = await client.write('secret/data/node/db', { data: { user: 'app', password: 'one' }, options: { cas: 0 } })
    assert.equal(written.data.version, 1)
    const conflict = await status(client.write('secret/data/node/db', { data: { user: 'x' }, options: { cas: 0 } }))
    assert.equal(conflict.statusCode, 400)
    assert.deepEqual(conflict.body.errors, ['check-and-set parameter did not match the current version'])
    await client.update('secret/data/node/db', { data: { password: 'two', user: null, port: '5432' } })
    assert.deepEqual((await client.read('secret/data/node/db')).data.data, { password: 'two', port: '5432' })
    assert.deepEqual((await client.read('secret/data/node/db?version=1')).data.data, { user: 'app', password: 'one' })
    assert.deepEqual((await client.list('secret/metadata')).data.keys, ['node/', 'other', 'shared-db'])
    assert.deepEqual((await vault({ noCustomHTTPVerbs: true }).list('secret/metadata/node')).data.keys, ['db'])

    await client.delete('secret/data/node/db')
    const gone = await status(client.read('secret/data/node/db'))
    assert.equal(gone.statusCode, 404)
    assert.equal(gone.body.data.metadata.version, 2)
    await client.write('secret/undelete/node/db', { versions: [2] })
    assert.equal((await client.read('secret/data/node/db')).data.metadata.version, 2)
    await client.write('secret/destroy/node/db', { versions: [1] })
    assert.equal((await client.read('secret/metadata/node/db')).data.versions['1'].destroyed, true)
    await client.delete('secret/metadata/node/db')
    const none = await status(client.read('secret/metadata/node/db'))
    assert.deepEqual([none.statusCode, none.body.errors], [404, []])
  })

  it('asks how the service is, and what it has mounted', async () => {
    const client = vault()
    assert.equal((await client.health()).sealed, false)
    assert.equal((await client.status()).sealed, false)
    assert.equal((await client.mounts()).data['secret/'].type, 'kv')
    assert.equal((await client.tokenLookupSelf()).data.policies[0], 'tenant-admin')
  })

  it('logs in by AppRole, by JWT and as a pod of Kubernetes', async () => {
    const client = vault({ token: '' })
    const login = await client.approleLogin({ role_id: 'gw-01', secret_id: secret })
    assert.equal(client.token, login.auth.client_token)
    assert.equal((await client.read('secret/data/shared-db')).data.data.url, 'postgres://shared')
    assert.equal((await status(client.read('secret/data/other'))).statusCode, 403)
    assert.equal((await client.tokenRenewSelf()).auth.client_token, client.token)
    await client.tokenRevokeSelf()
    assert.equal((await status(client.read('secret/data/shared-db'))).statusCode, 403)

    for (const [method, mount_point] of [['jwtLogin', 'jwt'], ['kubernetesLogin', 'kubernetes']]) {
      const other = vault({ token: '' })
      await other[method]({ role: 'pod', jwt: await issuer.token(pod), mount_point })
      assert.equal((await other.read('secret/data/shared-db')).data.data.url, 'postgres://shared')
      const stranger = await status(vault({ token: '' })[method]({ role: 'pod', jwt: await issuer.token('bob'), mount_point }))
      assert.equal(stranger.statusCode, 403)
    }
  })

  it('reads the views of the user whose token it logs in with', async () => {
    const client = vault({ token: '' })
    const login = await client.write('auth/jwt/login', {
      role: 'gateway', jwt: await asUser('1000', 'alice'), client_secret: gatewaySecret,
    })
    client.token = login.auth.client_token
    for (const path of ['mcp-gateway/1000', 'alice/github']) {
      assert.deepEqual((await client.read(`secret/data/${path}`)).data.data, { token: 'of alice' })
    }
    for (const path of ['mcp-gateway/2000', 'bob/github', 'alice/shared-db']) {
      const none = await status(client.read(`secret/data/${path}`))
      assert.deepEqual([none.statusCode, none.body.errors], [404, []], path)
    }
    assert.equal((await client.tokenLookupSelf()).data.policies[0], 'views')
    await client.tokenRevokeSelf()
    assert.equal((await status(client.read('secret/data/alice/github'))).statusCode, 403)
    const alone = await status(client.write('auth/jwt/login', { role: 'gateway', jwt: await asUser('1000', 'alice') }))
    assert.deepEqual([alone.statusCode, alone.body.errors], [403, ['client authentication failed']])
  })

  it('wraps and unwraps', async () => {
    const client = vault()
    await client.write('secret/data/node/wrapped', { data: { v: 'one' } })
    const { wrap_info: read } = await client.read('secret/data/node/wrapped', { headers: { 'X-Vault-Wrap-TTL': '5m' } })
    assert.equal(read.ttl, 300)
    assert.equal((await client.unwrap({ token: read.token })).data.data.v, 'one')
    const again = await status(client.unwrap({ token: read.token }))
    assert.deepEqual([again.statusCode, again.body.errors], [400, ['wrapping token is not valid or does not exist']])
    const { wrap_info: text } = await client.write('sys/wrapping/wrap', { a: 'b' }, { headers: { 'X-Vault-Wrap-TTL': 60 } })
    assert.deepEqual((await vault({ token: text.token }).unwrap()).data, { a: 'b' })
  })

  it('encrypts and decrypts with keys that an admin made', async () => {
    const client = vault({ token: '' })
    await client.approleLogin({ role_id: 'gw-01', secret_id: secret })
    const manager = vault()
    await manager.transitCreateKey({ name: 'node', type: 'aes256-gcm96' })
    assert.deepEqual((await manager.transitListKeys()).data.keys, ['node'])
    const plaintext = Buffer.from('text').toString('base64')
    const { data: { ciphertext } } = await client.encryptData({ name: 'node', plaintext })
    assert.match(ciphertext, /^vault:v1:/)
    await manager.write('transit/keys/node/rotate', {})
    const { data: again } = await client.rewrapData({ name: 'node', ciphertext })
    assert.match(again.ciphertext, /^vault:v2:/)
    for (const each of [ciphertext, again.ciphertext]) {
      assert.equal((await client.decryptData({ name: 'node', ciphertext: each })).data.plaintext, plaintext)
    }
    assert.equal((await client.transitReadKey({ name: 'node' })).data.latest_version, 2)
    assert.equal((await status(manager.decryptData({ name: 'node', ciphertext }))).statusCode, 403)
    const { data: fresh } = await client.write('transit/datakey/plaintext/node', {})
    assert.equal((await client.decryptData({ name: 'node', ciphertext: fresh.ciphertext })).data.plaintext, fresh.plaintext)
    // What Vault takes beside the items of a batch.
    const { data: { batch_results: macs } } = await client.write('transit/hmac/node', {
      algorithm: 'sha2-512', key_version: 1, batch_input: [{ input: plaintext }, { input: plaintext, reference: 'two' }],
    })
    assert.match(macs[0].hmac, /^vault:v1:.{88}$/)
    assert.deepEqual(macs[1], { hmac: macs[0].hmac, reference: 'two' })
    const { data: { batch_results: valid } } = await client.write('transit/verify/node', {
      hash_algorithm: 'sha2-512', batch_input: macs.map(({ hmac }) => ({ input: plaintext, hmac })),
    })
    assert.deepEqual(valid, [{ valid: true }, { valid: true }])
    await manager.write('transit/keys/node-sign', { type: 'ecdsa-p256' })
    const { data: { signature } } = await client.write('transit/sign/node-sign', { input: plaintext, marshaling_algorithm: 'jws' })
    const verified = await client.write('transit/verify/node-sign', { input: plaintext, signature, marshaling_algorithm: 'jws' })
    assert.deepEqual(verified.data, { valid: true })
    await manager.write('transit/keys/node-sign/config', { deletion_allowed: true })
    await manager.transitDeleteKey({ name: 'node-sign' })
    await manager.write('transit/keys/node/config', { deletion_allowed: true })
    await manager.transitDeleteKey({ name: 'node' })
    assert.equal((await status(manager.transitReadKey({ name: 'node' }))).statusCode, 404)
  })

  it('is nobody in the namespace of others', async () => {
    for (const other of [vault({ namespace: 'none' }), vault({ namespace: 'authlib' }), vault({ token: 'hvs.none' })]) {
      const refused = await status(other.read('secret/data/shared-db'))
      assert.deepEqual([refused.statusCode, refused.body.errors], [403, ['permission denied']])
    }
  })
})

describe('hvac', () => {
  let seen
  before(async () => {
    const parameters = {
      url, namespace, token: admin, role_id: 'gw-01', secret_id: secret, workload: await issuer.token(pod),
      gateway_secret: gatewaySecret, alice: await asUser('1000', 'alice'),
    }
    seen = await new Promise((resolve, reject) => {
      // Debian's Python: another one on the PATH has no hvac.
      const child = execFile('/usr/bin/python3', [join(import.meta.dirname, 'vault_client.py')], (error, stdout, stderr) =>
        error ? reject(new Error(stderr)) : resolve(JSON.parse(stdout)))
      child.stdin.end(JSON.stringify(parameters))
    })
  })

  it('does with KV version 2 what it does with Vault', () => {
    assert.deepEqual(seen.admin, {
      authenticated: true,
      stranger: false,
      health: false,
      head: 200,
      sealed: false,
      mounts: ['secret/', 'transit/'],
      first: 1,
      conflict: { errors: ['check-and-set parameter did not match the current version'] },
      second: 2,
      read: { user: 'app', password: 'three' },
      read_first: { user: 'app', password: 'one' },
      list: ['team/'],
      list_team: ['db'],
      deleted: { errors: null },
      current: 3,
      max_versions: 5,
      states: { 1: 'destroyed', 2: 'deleted', 3: 'live' },
      gone: { errors: [] },
      unwrapped: { password: 'four' },
      unwrapped_by_itself: { a: 'b' },
      unwrapped_again: { errors: ['wrapping token is not valid or does not exist'] },
    })
  })

  it('reads the views of a user', () => {
    const value = { token: 'of alice' }
    assert.deepEqual(seen.views, {
      policies: ['views'],
      authenticated: true,
      by_subject: value,
      by_name: value,
      bob: { errors: [] },
      write: { errors: ['this token may not do that'] },
      list: { errors: ['this token may not do that'] },
    })
  })

  it('uses keys of transit', () => {
    assert.deepEqual(seen.transit, {
      keys: ['hvac', 'hvac-sign'],
      decrypted: 'dGV4dA==',
      batch: ['YQ==', 'Yg=='],
      rewrapped: 'vault:v2:',
      refused: { errors: ['ciphertext or signature version is disallowed by policy (too old)'] },
      data_key: true,
      mac: true,
      other_mac: false,
      mac_512: true,
      mac_384: false,
      signature: true,
      other_signature: false,
      public_key: '-----BEGIN PUBLIC KEY-----',
      left: ['hvac-sign'],
    })
  })

  it('logs in as a client', () => {
    const value = { url: 'postgres://shared' }
    assert.deepEqual(seen.client, {
      policies: ['client'],
      self: 'gw-01',
      read: value,
      other: { errors: ['no backend gives this credential to this client by itself'] },
      write: { errors: ['this token may not do that'] },
      renewed: true,
      wrong: { errors: ['client authentication failed'] },
      after_logout: false,
      jwt: value,
      kubernetes: value,
    })
  })
})

describe('requests of', () => {
  const ask = async (method, path, { token = admin, body, headers = {} } = {}) => {
    const response = await fetch(`${url}/v1/${path}`, {
      method,
      headers: {
        'X-Vault-Namespace': `${namespace}/`, 'X-Vault-Request': 'true', 'X-Vault-Token': token, ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    })
    const text = await response.text()
    return { status: response.status, json: text && JSON.parse(text) }
  }

  it("Go's client and the vault command", async () => {
    // vault kv put -cas=0, get, patch, list, delete -versions, undelete, destroy, metadata put
    const preflight = await ask('GET', 'sys/internal/ui/mounts/secret/go/db')
    assert.equal(preflight.json.data.path, 'secret/')
    assert.equal(preflight.json.data.options.version, '2')
    const put = await ask('PUT', 'secret/data/go/db', { body: { data: { a: '1' }, options: { cas: 0 } } })
    assert.equal(put.json.data.version, 1)
    const patch = await ask('PATCH', 'secret/data/go/db', {
      body: { data: { b: '2' }, options: {} }, headers: { 'Content-Type': 'application/merge-patch+json' },
    })
    assert.equal(patch.json.data.version, 2)
    assert.deepEqual((await ask('GET', 'secret/metadata/go?list=true')).json.data.keys, ['db'])
    assert.deepEqual((await ask('GET', 'secret/metadata/go/?list=true')).json.data.keys, ['db'])
    for (const [what, versions] of [['delete', ['1', '2']], ['undelete', ['2']], ['destroy', ['1']]]) {
      assert.equal((await ask('PUT', `secret/${what}/go/db`, { body: { versions } })).status, 204, what)
    }
    assert.deepEqual((await ask('GET', 'secret/data/go/db?version=2')).json.data.data, { a: '1', b: '2' })
    assert.equal((await ask('PUT', 'secret/metadata/go/db', { body: { custom_metadata: { owner: 'x' }, max_versions: 3 } })).status, 204)
    assert.equal((await ask('DELETE', 'secret/metadata/go/db')).status, 204)
    assert.equal((await ask('PUT', 'auth/token/renew-self', { body: { increment: 0 } })).status, 400)
    const login = await ask('PUT', 'auth/approle/login', { token: '', body: { role_id: 'gw-01', secret_id: secret } })
    assert.equal(login.json.auth.token_type, 'service')
    assert.equal((await ask('GET', 'auth/token/lookup-self', { token: login.json.auth.client_token })).json.data.type, 'service')
  })

  it("Go's client, which writes by PUT: transit", async () => {
    const { auth } = (await ask('PUT', 'auth/approle/login', { token: '', body: { role_id: 'gw-01', secret_id: secret } })).json
    const write = async (path, body = {}, token = auth.client_token) => {
      const reply = await ask('PUT', `transit/${path}`, { token, body })
      assert.ok([200, 204].includes(reply.status), `${path}: ${reply.status}`)
      return reply.json?.data
    }
    const mounts = (await ask('GET', 'sys/mounts', { token: auth.client_token })).json.data
    assert.equal(mounts['transit/'].type, 'transit')
    const text = Buffer.from('text').toString('base64')
    await write('keys/go', {}, admin)
    const { ciphertext } = await write('encrypt/go', { plaintext: text })
    assert.match(ciphertext, /^vault:v1:/)
    await write('keys/go/rotate', {}, admin)
    const again = await write('rewrap/go', { ciphertext })
    assert.match(again.ciphertext, /^vault:v2:/)
    await write('keys/go/config', { min_decryption_version: 2, deletion_allowed: true }, admin)
    assert.equal((await write('decrypt/go', { ciphertext: again.ciphertext })).plaintext, text)
    assert.equal((await ask('PUT', 'transit/decrypt/go', { token: auth.client_token, body: { ciphertext } })).status, 400)
    for (const hash of ['', '/sha2-512']) {
      const { hmac } = await write(`hmac/go${hash}`, { input: text })
      assert.deepEqual(await write(`verify/go${hash}`, { input: text, hmac }), { valid: true }, hash)
    }
    const shown = await write('datakey/plaintext/go')
    assert.equal((await write('decrypt/go', { ciphertext: shown.ciphertext })).plaintext, shown.plaintext)
    const hidden = await write('datakey/wrapped/go')
    assert.equal(hidden.plaintext, undefined)
    assert.equal(Buffer.from((await write('decrypt/go', { ciphertext: hidden.ciphertext })).plaintext, 'base64').length, 32)
    await write('keys/go-sign', { type: 'ecdsa-p256' }, admin)
    await write('keys/go-sign/config', { deletion_allowed: true }, admin)
    for (const hash of ['', '/sha2-256']) {
      const { signature } = await write(`sign/go-sign${hash}`, { input: text })
      assert.deepEqual(await write(`verify/go-sign${hash}`, { input: text, signature }), { valid: true }, hash)
    }
    for (const key of ['go', 'go-sign']) {
      assert.equal((await ask('DELETE', `transit/keys/${key}`)).status, 204, key)
    }
  })

  it("Go's client, which writes by PUT: logins and tokens", async () => {
    const log_in = async (how, body) => {
      const reply = await ask('PUT', `auth/${how}/login`, { token: '', body })
      assert.equal(reply.status, 200, how)
      return reply.json.auth
    }
    const approle = () => log_in('approle', { role_id: 'gw-01', secret_id: secret })
    const alive = async ({ client_token: token }) => (await ask('GET', 'auth/token/lookup-self', { token })).status
    for (const how of ['jwt', 'kubernetes']) {
      assert.equal(await alive(await log_in(how, { role: 'pod', jwt: await issuer.token(pod) })), 200, how)
    }
    const one = await approle()
    const other = await approle()
    const put = (what, body, token = one.client_token) => ask('PUT', `auth/token/${what}`, { token, body })
    for (const [what, body] of [['renew-self', { increment: 60 }], ['renew', { token: other.client_token }]]) {
      const renewed = await put(what, body)
      assert.equal(renewed.status, 200, what)
      assert.ok(renewed.json.auth.lease_duration > 0, what)
    }
    assert.equal((await put('lookup', { token: other.client_token })).json.data.type, 'service')
    assert.equal((await put('lookup-accessor', { accessor: one.accessor })).json.data.accessor, one.accessor)
    // As `vault token create -ttl=5m` asks.
    const asked = { ttl: '5m', explicit_max_ttl: '0s', period: '0s', policies: null, metadata: null,
      display_name: '', num_uses: 0, renewable: true, type: 'service', no_parent: false }
    const child = (await put('create', asked)).json.auth
    assert.ok(child.lease_duration > 0 && child.lease_duration <= 300)
    assert.equal(await alive(child), 200)
    assert.equal((await put('revoke', { token: other.client_token })).status, 204)
    assert.deepEqual([await alive(other), await alive(one)], [403, 200])
    assert.equal((await put('revoke-accessor', { accessor: one.accessor })).status, 204)
    assert.deepEqual([await alive(one), await alive(child)], [403, 403])
    const last = await approle()
    assert.equal((await put('revoke-self', null, last.client_token)).status, 204)
    assert.equal(await alive(last), 403)
  })

  it("Go's client, which asks how it is", async () => {
    // Sys().Health(): it takes 4xx and 5xx for errors.
    const query = 'uninitcode=299&sealedcode=299&standbycode=299&drsecondarycode=299&performancestandbycode=299'
    const well = await ask('GET', `sys/health?${query}`, { token: '' })
    assert.equal(well.status, 200)
    assert.equal(well.json.sealed, false)
    assert.equal((await ask('HEAD', `sys/health?${query}&activecode=299`, { token: '' })).status, 299)
  })

  it('vault kv get -wrap-ttl, vault unwrap, vault write sys/wrapping', async () => {
    const wrapped = { headers: { 'X-Vault-Wrap-TTL': '2m0s' } }
    const unwrap = (token, body) => ask('PUT', 'sys/wrapping/unwrap', { token, body })
    const read = (await ask('GET', 'secret/data/shared-db', wrapped)).json.wrap_info
    assert.equal((await ask('PUT', 'sys/wrapping/lookup', { body: { token: read.token } })).json.data.creation_ttl, 120)
    const anew = (await ask('PUT', 'sys/wrapping/rewrap', { body: { token: read.token } })).json.wrap_info
    assert.equal(anew.creation_path, 'secret/data/shared-db')
    assert.equal((await unwrap(read.token)).status, 400)
    // Go's client puts the wrapping token in place of its own, and sends null.
    assert.equal((await unwrap(anew.token, null)).json.data.data.url, 'postgres://shared')
    assert.equal((await unwrap(admin, { token: anew.token })).status, 400)
  })

  it("Authorino, for Kuadrant's gateway", async () => {
    // metadata.http: a login with the token of the request and a shared secret, then the user's path.
    const basic = (password) => ({ Authorization: `Basic ${btoa(`gateway:${password}`)}` })
    const login = async (sub, name, headers = basic(gatewaySecret)) => {
      const response = await fetch(`${url}/v1/auth/jwt/login`, {
        method: 'POST',
        headers: { 'X-Vault-Namespace': namespace, 'Content-Type': 'application/json', ...headers },
        body: JSON.stringify({ role: 'gateway', jwt: await asUser(sub, name) }),
      })
      return { status: response.status, json: await response.json() }
    }
    for (const [sub, name] of [['1000', 'alice'], ['2000', 'bob']]) {
      const token = (await login(sub, name)).json.auth.client_token
      const own = await ask('GET', `secret/data/mcp-gateway/${sub}`, { token })
      assert.equal(own.json.data.data.token, `of ${name}`)
      assert.equal((await ask('GET', `secret/data/mcp-gateway/${3000 - sub}`, { token })).status, 404)
    }
    // Who calls itself alice gets what is its own.
    const namesake = (await login('2000', 'alice')).json.auth.client_token
    assert.equal((await ask('GET', 'secret/data/alice/github', { token: namesake })).json.data.data.token, 'of bob')
    for (const headers of [{}, basic('wrong')]) {
      assert.deepEqual((await login('1000', 'alice', headers)).json.errors, ['client authentication failed'])
    }
  })

  it('External Secrets', async () => {
    // Logs in, validates by lookup-self, reads data and metadata, finds by folder, gives the token back.
    const role = await ask('PUT', 'auth/kubernetes/login', { token: '', body: { role: 'pod', jwt: await issuer.token(pod) } })
    const token = role.json.auth.client_token
    const self = await ask('GET', 'auth/token/lookup-self', { token })
    assert.equal(self.json.data.type, 'service')
    assert.ok(self.json.data.ttl > 0 && self.json.data.expire_time)
    const read = await ask('GET', 'secret/data/shared-db', { token })
    assert.deepEqual(read.json.data.data, { url: 'postgres://shared' })
    assert.equal((await ask('GET', 'secret/data/shared-db?version=1', { token })).json.data.metadata.version, 1)
    assert.equal((await ask('GET', 'secret/metadata/shared-db', { token })).json.data.custom_metadata, null)
    assert.deepEqual((await ask('GET', 'secret/metadata/?list=true', { token })).json.data.keys, ['shared-db'])
    assert.equal((await ask('PUT', 'auth/token/revoke-self', { token })).status, 204)
    assert.equal((await ask('GET', 'secret/data/shared-db', { token })).status, 403)
  })
})
