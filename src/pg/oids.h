/* oids.h: the numbers of built-in types. */
#ifndef MP_OIDS_H
#define MP_OIDS_H

/* Type numbers of the built-in types: PostgreSQL, src/include/catalog/pg_type.dat; they never
 * change. */
enum {
  MP_OID_BOOL = 16,
  MP_OID_BYTEA = 17,
  MP_OID_CHAR = 18, /* "char", of one byte */
  MP_OID_INT8 = 20,
  MP_OID_INT2 = 21,
  MP_OID_INT4 = 23,
  MP_OID_TEXT = 25,
  MP_OID_OID = 26,
  MP_OID_JSON = 114,
  MP_OID_FLOAT4 = 700,
  MP_OID_FLOAT8 = 701,
  MP_OID_DATE = 1082,
  MP_OID_TIMESTAMP = 1114,
  MP_OID_TIMESTAMPTZ = 1184,
  MP_OID_NUMERIC = 1700,
  MP_OID_UUID = 2950,
  MP_OID_JSONB = 3802,
};

#endif
