/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * 64-bit hashes for tables, and for identities that stand in caches and
 * recordings: the functions are fixed, little-endian, and must never change
 * their results.  Not meant to withstand an adversary: whoever hashes foreign
 * keys bounds the work that collisions can cause.
 */
#ifndef PYLEAKD_BASE_HASH_H
#define PYLEAKD_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The finalizer of splitmix64 (Steele, Lea, Flood: Fast splittable PRNGs, 2014): a bijection. */
static inline uint64_t hash_u64(uint64_t value)
{
	value ^= value >> 30;
	value *= 0xbf58476d1ce4e5b9ULL;
	value ^= value >> 27;
	value *= 0x94d049bb133111ebULL;
	value ^= value >> 31;
	return value;
}

/* Folds value into the running hash; the order of the values matters. */
static inline uint64_t hash_combine(uint64_t hash, uint64_t value)
{
	return hash_u64((hash ^ value) + 0x9e3779b97f4a7c15ULL);
}

static inline uint64_t hash_bytes(const void *bytes, size_t size, uint64_t seed)
{
	const unsigned char *at = bytes;
	uint64_t hash = hash_combine(seed, size);
	uint64_t word;

	for (; size >= sizeof(word); size -= sizeof(word), at += sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		hash = hash_combine(hash, word);
	}
	if (size > 0) {
		word = 0;
		memcpy(&word, at, size);
		hash = hash_combine(hash, word);
	}
	return hash;
}

static inline uint64_t hash_string(const char *text)
{
	return hash_bytes(text, strlen(text), 0);
}

#endif
