"""The process itself: its socket, its neighbours, its start."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from imgserve.config import Settings
from imgserve.errors import ConfigError
from imgserve.gateway.app import serve
from tests.support.broker_double import BrokerDouble
from tests.support.eventually import eventually
from tests.support.gateway_run import REQUEST, GatewayRun


def test_a_port_in_use_is_refused_with_its_number(tmp_path):
    """The settings are named; nothing is left open."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(state=tmp_path, host="127.0.0.1", port=port)
        with pytest.raises(ConfigError, match=f"port = {port}"):
            asyncio.run(serve(settings, stop=asyncio.Event()))


def test_it_binds_its_own_socket_and_warns_beyond_loopback(tmp_path, caplog):
    """Port 0 is any free one; an open address is said to be open."""
    caplog.set_level(logging.INFO, "imgserve.gateway")

    async def main(host):
        stop = asyncio.Event()
        stop.set()
        return await serve(Settings(state=tmp_path, host=host, port=0), stop=stop)

    assert asyncio.run(main("127.0.0.1")) == 0
    assert "may submit jobs" not in caplog.text
    assert asyncio.run(main("0.0.0.0")) == 0  # noqa: S104 (the historical default)
    assert "may submit jobs" in caplog.text


def test_several_processes_share_one_socket(broker):
    """Each has its own submitter; one ends and the other serves on."""

    def same(listener):
        # Not `listener.dup()`: that makes the one open file description blocking again.
        return socket.socket(fileno=os.dup(listener.fileno()))

    with (
        socket.create_server(("127.0.0.1", 0), backlog=100) as listener,
        GatewayRun(broker.path, listener=listener) as staying,
    ):
        with GatewayRun(broker.path, listener=same(listener)) as leaving:
            assert staying.port == leaving.port
            for _ in range(20):
                assert "dstURL" in staying.post(REQUEST).json
        assert leaving.exit_code == 0
        for _ in range(20):
            assert "dstURL" in staying.post(REQUEST).json


def test_a_gateway_may_start_before_its_broker(tmp_path):
    """A request posted then is answered when the broker has come."""
    double = BrokerDouble(tmp_path)
    with GatewayRun(double.path) as gateway, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(gateway.post, REQUEST)
        eventually(lambda: gateway.ask("GET", "/healthz").status == 200)
        with double:
            assert "dstURL" in answer.result().json
