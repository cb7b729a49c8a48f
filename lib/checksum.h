/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
#ifndef EVERING_LIB_CHECKSUM_H
#define EVERING_LIB_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

uint32_t evr_crc32c(uint32_t crc, const void *data, size_t len);
uint32_t evr_crc32c_plain(uint32_t crc, const void *data, size_t len);

#endif /* EVERING_LIB_CHECKSUM_H */
