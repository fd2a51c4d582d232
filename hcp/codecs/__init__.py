"""Avro bytes <-> values of hcp.model: single-object encoding, ranges checked on the way in and out."""

from hcp.codecs.single_object import decode, encode, fingerprint_of

__all__ = ["decode", "encode", "fingerprint_of"]
