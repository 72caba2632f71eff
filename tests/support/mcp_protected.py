"""An MCP server that wants a login, and its authorization server, as a process: `python mcp_protected.py FOLDER LOGIN_PORT PORT`.

Both are made with the SDK, at two origins. Whoever opens the address of the login is logged in, unless `FOLDER/deny` is there. What happened
stands in `FOLDER/log`, a word each. Tokens live for the seconds in `FOLDER/ttl`; a refresh token can be used once.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from pathlib import Path

import mcp.types as t
import uvicorn
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    RefreshToken,
    construct_redirect_uri,
)
from mcp.server.auth.routes import create_auth_routes
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions, RevocationOptions
from mcp.server.lowlevel import Server
from mcp.shared.auth import OAuthToken
from starlette.applications import Starlette

FOLDER, LOGIN_PORT, PORT = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
LOGIN, RESOURCE = f"http://127.0.0.1:{LOGIN_PORT}", f"http://127.0.0.1:{PORT}/mcp"


def note(word):
    with (FOLDER / "log").open("a") as log:
        log.write(word + "\n")


class Logins:
    """Everything that the authorization server knows."""

    def __init__(self):
        self.clients, self.codes, self.access, self.refresh = {}, {}, {}, {}

    async def get_client(self, client_id):
        return self.clients.get(client_id)

    async def register_client(self, client_info):
        note("register")
        self.clients[client_info.client_id] = client_info

    async def authorize(self, client, params):
        note("authorize")
        back = str(params.redirect_uri)
        if (FOLDER / "deny").exists():
            return construct_redirect_uri(back, error="access_denied", state=params.state)
        code = AuthorizationCode(
            code=secrets.token_urlsafe(24),
            scopes=params.scopes or [],
            expires_at=time.time() + 60,
            client_id=client.client_id,
            code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri,
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
            resource=params.resource,
        )
        self.codes[code.code] = code
        return construct_redirect_uri(back, code=code.code, state=params.state)

    async def load_authorization_code(self, _client, authorization_code):
        return self.codes.get(authorization_code)

    async def exchange_authorization_code(self, client, authorization_code):
        note("code")
        code = self.codes.pop(authorization_code.code)
        return self._made(client, code.scopes, code.resource)

    async def load_refresh_token(self, _client, refresh_token):
        return self.refresh.get(refresh_token)

    async def exchange_refresh_token(self, client, refresh_token, scopes):
        note("refresh")
        old = self.refresh.pop(refresh_token.token)
        return self._made(client, scopes or old.scopes, old.resource)

    def _made(self, client, scopes, resource):
        ttl = int((FOLDER / "ttl").read_text())
        access, refresh = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        common = {"client_id": client.client_id, "scopes": scopes, "resource": resource}
        self.access[access] = AccessToken(token=access, expires_at=int(time.time()) + ttl, **common)
        self.refresh[refresh] = RefreshToken(token=refresh, **common)
        return OAuthToken(access_token=access, expires_in=ttl, refresh_token=refresh, scope=" ".join(scopes))

    async def load_access_token(self, token):
        return self.access.get(token)

    async def verify_token(self, token):
        if (FOLDER / "revoked").exists():
            return None
        return self.access.get(token)

    async def revoke_token(self, token):
        self.access.pop(token.token, None)


async def tools(_ctx, _params):
    hints = t.ToolAnnotations(read_only_hint=True)
    party = {"type": "object", "properties": {"guests": {"type": "integer"}}}
    return t.ListToolsResult(
        tools=[
            t.Tool(name="look", input_schema={"type": "object"}, annotations=hints),
            t.Tool(name="meet", input_schema=party, annotations=hints),
        ]
    )


PRESENT = asyncio.Condition()
"""Told of each call of `meet`."""
present = 0


async def call(_ctx, params):
    global present  # noqa: PLW0603  # the one count of this process
    guests = (params.arguments or {}).get("guests", 0)
    async with PRESENT, asyncio.timeout(30):  # `meet` ends when as many calls of it are here
        present += bool(guests)
        PRESENT.notify_all()
        await PRESENT.wait_for(lambda: present >= guests)
    return t.CallToolResult(content=[t.TextContent(type="text", text="seen")])


async def main():
    logins = Logins()
    options = ClientRegistrationOptions(enabled=True, valid_scopes=["use"], default_scopes=["use"])
    settings = AuthSettings(
        issuer_url=LOGIN, resource_server_url=RESOURCE, required_scopes=["use"], validate_token_resource=True
    )
    # The issuer is compared as text, so that both servers have it from one place.
    login = Starlette(
        routes=create_auth_routes(logins, settings.issuer_url, None, options, RevocationOptions())
    )
    server = Server("vault", version="1", on_list_tools=tools, on_call_tool=call)
    app = server.streamable_http_app(auth=settings, token_verifier=logins)
    servers = [
        uvicorn.Server(uvicorn.Config(each, port=port, log_level="warning", timeout_graceful_shutdown=1))
        for each, port in ((login, LOGIN_PORT), (app, PORT))
    ]
    await asyncio.gather(*(each.serve() for each in servers))


asyncio.run(main())
