// A provider's keys change while both run: announced, and all of a sudden.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as jose from 'jose'
import { backends, byOauth4webapi, subject, verified } from './clients.mjs'
import { startProvider } from './identity_provider.mjs'
import { api, eventually, onboard } from './postern.mjs'

describe('keys rotated while running', { concurrency: true }, () => {
  for (const alg of ['RS256', 'ES256']) {
    it(alg, async () => {
      const provider = await startProvider(alg)
      try {
        const tenant = await onboard(
          `rotated-${alg.toLowerCase()}`,
          [{ name: 'idp', issuer: provider.issuer, discovery: true, audiences: ['gw-01'] }],
          backends,
        )
        const exchanged = async (tokens) => {
          const result = await byOauth4webapi(tenant, subject(tokens))
          return (await verified(tenant, result.access_token)).payload.sub
        }
        const kid = (tokens) => jose.decodeProtectedHeader(tokens.access_token).kid

        // Announced: the next key is published first, and used at once.
        const switchOver = await provider.publishNext()
        const before = await provider.signIn('alice')
        assert.equal(await exchanged(before), 'alice')
        const nextKid = switchOver()
        const announced = await provider.signIn('alice')
        assert.equal(kid(announced), nextKid)
        assert.equal(await exchanged(announced), 'alice')

        // Not announced: the provider is asked for its keys again, once a minute.
        const newKid = await provider.rotate({ keepOld: false })
        const sudden = await eventually(async () => {
          const tokens = await provider.signIn('bob')
          assert.equal(kid(tokens), newKid)
          assert.equal(await exchanged(tokens), 'bob')
          return tokens
        })
        assert.equal(await exchanged(sudden), 'bob')
        // What a withdrawn key signed is worth nothing, however it was cached.
        await assert.rejects(exchanged(announced), (error) => error.error === 'invalid_request')
        await assert.rejects(exchanged(before), (error) => error.error === 'invalid_request')

        const { intact } = await api('GET', `/tenants/rotated-${alg.toLowerCase()}/audit/verification`)
        assert.equal(intact, true)
      } finally {
        await provider.stop()
      }
    })
  }
})
