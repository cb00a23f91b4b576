#!/bin/sh
# Two curl calls, as in a shell script.
set -eu
session=4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10
set -- --connect-timeout 10 --max-time 30
token=$(curl -sf "$@" --cacert "$DIDIT_CA_FILE" -u "$DIDIT_CLIENT_ID:$DIDIT_CLIENT_SECRET" \
    -d grant_type=client_credentials "$DIDIT_AUTH_URL/auth/v2/token/" | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
curl -sf "$@" --cacert "$DIDIT_CA_FILE" -X PATCH -H "Authorization: Bearer $token" -H "Content-Type: application/json" \
    -d '{"new_status":"Declined","comment":"Duplicated user"}' \
    "$DIDIT_BASE_URL/v1/session/$session/update-status/" | grep -q "$session"
