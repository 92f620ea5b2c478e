# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.gateway.access import (
    Access,
    AccessError,
    Role,
    Token,
    digest_of,
    load_access,
    new_token,
    save_access,
)
from flow_rag_vla.gateway.errors import GatewayError


def refusal(access, secret, role):
    with pytest.raises(GatewayError) as caught:
        access.check(secret, role)
    return caught.value


@pytest.mark.parametrize("own", Role)
@pytest.mark.parametrize("asked", Role)
def test_a_role_may_do_what_lower_roles_may_and_nothing_more(own, asked):
    token, secret = new_token("ada", own)
    access = Access([token])
    if own >= asked:
        assert access.check(secret, asked).name == "ada"
    else:
        error = refusal(access, secret, asked)
        assert (error.status, error.code) == (403, "role_too_low")
        assert asked.word in error.remedy


def test_without_a_token_with_a_foreign_one_and_with_an_expired_one_it_is_401_with_a_code():
    now = [1000.0]
    token, secret = new_token("ada", Role.OPERATOR)
    access = Access([Token("ada", Role.OPERATOR, token.digest, expires=1001.0)], clock=lambda: now[0])
    assert refusal(access, None, Role.VIEWER).code == "token_missing"
    assert refusal(access, "", Role.VIEWER).code == "token_missing"
    assert refusal(access, secret[:-1], Role.VIEWER).code == "token_unknown"
    assert access.check(secret, Role.OPERATOR).role is Role.OPERATOR
    now[0] = 1001.0
    error = refusal(access, secret, Role.VIEWER)
    assert (error.status, error.code) == (401, "token_expired")


@given(st.text())
def test_no_text_whatever_opens_a_server_without_its_secret(text):
    token, secret = new_token("ada", Role.VIEWER)
    if text != secret:
        assert refusal(Access([token]), text, Role.VIEWER).status == 401


def test_a_token_file_keeps_digests_only_and_only_its_owner_reads_it(tmp_path):
    path = tmp_path / "tokens.json"
    kept, secret = new_token("ada", Role.REVIEWER, lifetime_s=3600.0)
    save_access(path, [kept])
    assert path.stat().st_mode & 0o777 == 0o600
    assert secret not in path.read_text()
    person = load_access(path).check(secret, Role.REVIEWER)
    assert person.name == "ada"
    assert load_access(path).tokens[0].expires == pytest.approx(time.time() + 3600.0, abs=60.0)


def test_a_token_file_that_others_can_read_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "tokens.json"
    save_access(path, [new_token("ada", Role.VIEWER)[0]])
    path.chmod(0o640)
    with pytest.raises(AccessError, match=r"0640.*chmod 600"):
        load_access(path)


GOOD = {"name": "ada", "role": "viewer", "sha256": digest_of("x")}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "malformed"),
        ("[]", "malformed"),
        ('{"tokens": [{}]}', "name"),
        (json.dumps({"tokens": [GOOD | {"role": "root"}]}), "'root', expected one of viewer"),
        (json.dumps({"tokens": [GOOD | {"sha256": "abc"}]}), "64 lower-case hex"),
        (json.dumps({"tokens": [GOOD | {"expires": "soon"}]}), "'soon'"),
        (json.dumps({"tokens": [GOOD | {"expires": True}]}), "True"),
        (json.dumps({"tokens": [GOOD | {"name": 3}]}), "name is 3"),
    ],
)
def test_a_malformed_token_file_is_refused_and_says_why(tmp_path, text, says):
    path = tmp_path / "tokens.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(AccessError, match=says):
        load_access(path)


def test_a_token_file_that_is_not_there_or_is_no_text_is_refused(tmp_path):
    with pytest.raises(AccessError, match="No such file"):
        load_access(tmp_path / "tokens.json")
    path = tmp_path / "bytes.json"
    path.write_bytes(b"\xff\xfe")
    path.chmod(0o600)
    with pytest.raises(AccessError, match="no text"):
        load_access(path)
