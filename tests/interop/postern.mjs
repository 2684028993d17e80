// The running Postern that run.sh started, as its operator.

import { readFileSync } from 'node:fs'
import * as jose from 'jose'

export const url = process.env.POSTERN_TEST_URL
export const programs = process.env.POSTERN_TEST_PROGRAMS
const operatorToken = readFileSync(process.env.POSTERN_TEST_OPERATOR_TOKEN_FILE, 'utf8').trim()

export async function api(method, path, { token = operatorToken, body } = {}) {
  const response = await fetch(url + '/api/v1' + path, {
    method,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: body && JSON.stringify(body),
  })
  const text = await response.text()
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
  return text && JSON.parse(text)
}

/// A tenant that trusts the given issuers; returns its issuer URL and gw-01's secret.
export async function onboard(name, issuers, backends) {
  const applied = await api('PUT', `/tenants/${name}/manifest`, {
    body: {
      tenant: name,
      issuers,
      clients: [
        {
          id: 'gw-01',
          grants: ['token-exchange', 'client_credentials'],
          backends: ['*'],
          scopes: ['*'],
        },
      ],
      backends,
      roles: [{ name: 'developer', allow: ['*:*'] }],
      bindings: [{ role: 'developer', groups: ['engineering'] }],
    },
  })
  return { issuer: `${url}/t/${name}`, secret: applied.client_secrets[0].client_secret }
}

/// An issuer without a server: its key set stands in the registration.
export async function newIssuer(issuer, more = {}) {
  const { privateKey, publicKey } = await jose.generateKeyPair('ES256')
  const jwk = { ...(await jose.exportJWK(publicKey)), kid: 'k1', alg: 'ES256', use: 'sig' }
  return {
    registration: { name: 'idp', issuer, jwks: { keys: [jwk] }, audiences: ['gw-01'], ...more },
    token: (user, claims = {}, typ = 'JWT') =>
      new jose.SignJWT({ groups: ['engineering'], aud: 'gw-01', ...claims })
        .setProtectedHeader({ alg: 'ES256', kid: 'k1', typ })
        .setIssuer(issuer).setSubject(user).setIssuedAt().setExpirationTime('5m')
        .sign(privateKey),
  }
}

/// Until it no longer throws.
export async function eventually(attempt, seconds = 120) {
  const until = Date.now() + seconds * 1000
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      if (Date.now() > until) throw error
      await new Promise((resolve) => setTimeout(resolve, 250))
    }
  }
}
