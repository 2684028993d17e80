// npm oidc-provider on loopback: users sign in with the authorization code flow
// and get an access token, a JWT or opaque, and an ID token. Its keys can be
// rotated while it runs.

import { createServer } from 'node:http'
import { exportJWK, generateKeyPair } from 'jose'
import * as client from 'openid-client'
import Provider from 'oidc-provider'

// It says at length which of its defaults are for development only.
console.info = console.warn = () => {}

const kResource = 'https://gateway.example/'
const kRedirect = 'https://gateway.example/callback'

async function newKey(alg) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true })
  return { ...(await exportJWK(privateKey)), alg, use: 'sig', kid: crypto.randomUUID() }
}

export const introspector = { id: 'postern', secret: 'p%stern:+secret/' + 'x'.repeat(24) }

function makeProvider(issuer, alg, keys, format) {
  return new Provider(issuer, {
    jwks: { keys },
    clients: [
      {
        client_id: 'gw-01',
        client_secret: 'secret-at-the-provider-only',
        redirect_uris: [kRedirect],
        grant_types: ['authorization_code'],
        response_types: ['code'],
        id_token_signed_response_alg: alg,
      },
      {
        client_id: introspector.id,
        client_secret: introspector.secret,
        redirect_uris: [],
        grant_types: [],
        response_types: [],
        id_token_signed_response_alg: alg,
      },
    ],
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256'] },
    claims: { openid: ['sub', 'groups'] },
    conformIdTokenClaims: false,
    findAccount: (ctx, id) => ({
      accountId: id,
      claims: () => ({ sub: id, groups: ['engineering'] }),
    }),
    extraTokenClaims: () => ({ groups: ['engineering'] }),
    async loadExistingGrant(ctx) {
      const grant = new ctx.oidc.provider.Grant({
        clientId: ctx.oidc.client.clientId,
        accountId: ctx.oidc.session.accountId,
      })
      grant.addOIDCScope('openid')
      grant.addResourceScope(kResource, 'files:read files:write')
      await grant.save()
      return grant
    },
    features: {
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: 'files:read files:write',
          audience: 'gw-01',
          accessTokenFormat: format,
          accessTokenTTL: 300,
          ...(format === 'jwt' && { jwt: { sign: { alg } } }),
        }),
      },
      introspection: { enabled: format === 'opaque' },
      revocation: { enabled: format === 'opaque' },
    },
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    cookies: { keys: ['a key of the test'] },
    ttl: { IdToken: 300 },
  })
}

export async function startProvider(alg, format = 'jwt') {
  let provider
  let keys = [await newKey(alg)]
  const server = createServer(async (request, response) => {
    if (!request.url.startsWith('/interaction/')) return provider.callback()(request, response)
    const { params } = await provider.interactionDetails(request, response)
    return provider.interactionFinished(request, response, {
      login: { accountId: params.login_hint },
    })
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const issuer = `http://127.0.0.1:${server.address().port}`
  provider = makeProvider(issuer, alg, keys, format)

  return {
    issuer,
    /// Signs with a new key from now on. The old one is still published, or not.
    async rotate({ keepOld }) {
      const fresh = await newKey(alg)
      keys = keepOld ? [fresh, ...keys] : [fresh]
      provider = makeProvider(issuer, alg, keys, format)
      return fresh.kid
    },
    /// Publishes a key before it is used, as providers do.
    async publishNext() {
      const next = await newKey(alg)
      provider = makeProvider(issuer, alg, [...keys, next], format)
      return () => {
        keys = [next]
        provider = makeProvider(issuer, alg, keys, format)
        return next.kid
      }
    },
    async revoke(token) {
      const answer = await fetch(`${issuer}/token/revocation`, {
        method: 'POST',
        body: new URLSearchParams({
          token,
          client_id: 'gw-01',
          client_secret: 'secret-at-the-provider-only',
        }),
      })
      if (!answer.ok) throw new Error(`revocation: ${answer.status} ${await answer.text()}`)
    },
    async signIn(user) {
      const config = await client.discovery(
        new URL(issuer),
        'gw-01',
        { id_token_signed_response_alg: alg },
        client.ClientSecretPost('secret-at-the-provider-only'),
        { execute: [client.allowInsecureRequests] },
      )
      const verifier = client.randomPKCECodeVerifier()
      const start = client.buildAuthorizationUrl(config, {
        redirect_uri: kRedirect,
        scope: 'openid files:read files:write',
        resource: kResource,
        login_hint: user,
        code_challenge: await client.calculatePKCECodeChallenge(verifier),
        code_challenge_method: 'S256',
      })
      const landed = await followAsBrowser(start)
      return client.authorizationCodeGrant(
        config,
        landed,
        { pkceCodeVerifier: verifier },
        { resource: kResource },
      )
    },
    stop: () => new Promise((resolve) => {
      server.close(resolve)
      server.closeAllConnections()
    }),
  }
}

async function followAsBrowser(start) {
  const cookies = new Map()
  let at = start
  for (let hop = 0; hop < 10; ++hop) {
    const response = await fetch(at, {
      redirect: 'manual',
      headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') },
    })
    const body = await response.text()
    for (const line of response.headers.getSetCookie()) {
      const [pair] = line.split(';')
      const equals = pair.indexOf('=')
      cookies.set(pair.slice(0, equals), pair.slice(equals + 1))
    }
    const location = response.headers.get('location')
    if (!location) throw new Error(`sign-in stopped at ${at}: ${response.status} ${body}`)
    at = new URL(location, at)
    if (at.href.startsWith(kRedirect)) return at
  }
  throw new Error('sign-in never ended')
}
