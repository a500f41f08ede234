"""The dashboard in a real browser, on a real cluster: what a person sees and does."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.browser import Page, browser, needs_chromium
from tests.conftest import EVENT_TIMEOUT_S, Cluster, MakeCluster, free_base_port, run_cli
from tests.integration.test_up import Up

pytestmark = [pytest.mark.integration, needs_chromium]

MARKUP = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"
LOST = ("net::ERR_CONNECTION_REFUSED", "net::ERR_CONNECTION_RESET")
NOT_FOUND = ("the server responded with a status of 404",)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    with browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


def page_of(driver: object, cluster: Cluster, number: int = 1) -> Page:
    return Page(driver, f"http://{cluster.members[number - 1].http_address}")  # type: ignore[arg-type]


def put(cluster: Cluster, bucket: str, key: str, value: bytes, number: int = 1, **headers: str) -> int:
    connection = http.client.HTTPConnection(cluster.members[number - 1].http_address, timeout=EVENT_TIMEOUT_S)
    path = f"/v1/buckets/{quote(bucket, safe='')}/keys/{quote(key, safe='')}"
    connection.request("PUT", path, value, {name.replace("_", "-"): text for name, text in headers.items()})
    status = connection.getresponse().status
    connection.close()
    return status


def values(cluster: Cluster, bucket: str, key: str) -> bytes:
    done = cluster.cli("get", bucket, key)
    return done.stdout if done.returncode == 0 else b"exit %d" % done.returncode


def test_the_overview_is_live(driver: object, shared_cluster: Cluster) -> None:
    page = page_of(driver, shared_cluster)
    page.open()
    assert "Ring of 64 partitions" in page.driver.find_element(By.CSS_SELECTOR, "#ring svg").get_attribute("aria-label")
    assert len(page.all("#ring svg path")) == 3
    page.until(lambda: [page.attribute(f"node-n{n}", "data-state") for n in (1, 2, 3)] == ["up"] * 3, "all are up")
    counted = "throughput-put"
    page.until(lambda: page.text(counted) == "0", "nothing is written")

    def written() -> bool:
        for index in range(20):
            assert put(shared_cluster, "live", f"key{index}", b"value") == 204
        return page.text(counted) not in ("0", "–", "")

    page.until(written, "writes are seen")
    page.until(lambda: page.text("p999-put").endswith(" ms"), "and how long they took")
    page.check_conduct()


def test_freshness_is_told_once_it_is_measured(driver: object, make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    page = page_of(driver, cluster)
    page.open()
    page.until(lambda: "every read sees" in page.text("staleness-now").lower(), "r + w > n needs no measurement")
    assert "not enough measurements yet" in page.text("staleness-note")
    connection = redis.Redis(port=int(cluster.address(1).rpartition(":")[2]))
    with connection.pipeline(transaction=False) as pipeline:
        for index in range(600):
            pipeline.set(f"carts:key{index}", b"value")
        pipeline.execute()
    connection.close()
    page.until(lambda: page.all("#staleness-1-1"), "every r and w is a row")
    assert len(page.all("#staleness tbody tr")) == 9
    assert page.attribute("staleness-2-2", "data-current") == "true"
    assert "certain" in page.text("staleness-2-2")
    assert " %" in page.text("staleness-1-1")
    assert "not measured" in page.text("staleness-2-1") or "/" in page.text("staleness-2-1")
    page.check_conduct()


def test_siblings_are_seen_and_resolved(driver: object, shared_cluster: Cluster) -> None:
    for value in (b"milk", b"eggs"):
        assert put(shared_cluster, "carts", "dana", value, Content_Type="text/plain") == 204
    page = page_of(driver, shared_cluster)
    page.open("inspect")
    page.inspect("carts", "dana")
    assert page.texts("#inspect-siblings pre") == ["milk", "eggs"]
    assert len(page.all("#inspect-preference li:not(.fallback)")) == 3
    assert "All replicas that answered hold the same." in page.text("inspect-agreement")
    page.fill("merge-value", "milk and eggs")
    page.click("merge-write")
    page.until(lambda: "written" in page.text("inspect-result"), "it is written")
    page.until(lambda: page.texts("#inspect-siblings pre") == ["milk and eggs"], "it is what is there now")
    assert values(shared_cluster, "carts", "dana") == b"milk and eggs"
    page.click("merge-delete")
    page.until(lambda: "deleted" in page.text("inspect-result"), "it is deleted")
    assert values(shared_cluster, "carts", "dana") == b"exit 4"
    page.until(lambda: "tombstone" in page.text("inspect-replicas"), "a tombstone is what the replicas hold")
    page.check_conduct(NOT_FOUND)


def test_one_of_two_values_is_taken_as_it_is(driver: object, shared_cluster: Cluster) -> None:
    for value in (b"\xff\x00\xfe", b"text"):
        assert put(shared_cluster, "carts", "bytes", value) == 204
    page = page_of(driver, shared_cluster)
    page.open("inspect")
    page.inspect("carts", "bytes")
    page.click("choose-0")
    page.click("merge-write")
    page.until(lambda: "written" in page.text("inspect-result"), "it is written")
    assert values(shared_cluster, "carts", "bytes") == b"\xff\x00\xfe"


def test_markup_is_shown_and_not_run(driver: object, shared_cluster: Cluster) -> None:
    bucket = "<b onclick=document.title=1>"
    assert put(shared_cluster, bucket, MARKUP, MARKUP.encode(), Content_Type="text/html") == 204
    assert shared_cluster.cli("bucket", "set", bucket, "ttl=5000").returncode == 0
    page = page_of(driver, shared_cluster)
    page.open("inspect")
    page.inspect(bucket, MARKUP)
    assert page.texts("#inspect-siblings pre") == [MARKUP]
    assert page["merge-value"].get_attribute("value") == MARKUP
    page.show("buckets")
    page.until(lambda: bucket in page.text("bucket-list"), "the bucket is listed")
    assert page.driver.title == "Quorate"
    assert page.all("main img, main b, main script") == []
    page.check_conduct()


def test_a_bucket_is_changed(driver: object, shared_cluster: Cluster) -> None:
    page = page_of(driver, shared_cluster)
    page.open("buckets")
    page.fill("bucket-name", "sessions")
    page.click("bucket-load")
    page.until(lambda: page.all("#bucket-field-ttl"), "its fields are there")
    page.fill("bucket-field-ttl", "3600")
    page.driver.execute_script("document.getElementById('bucket-field-conflicts').value = 'lww'")
    page.click("bucket-save")
    page.until(lambda: "Changed" in page.text("bucket-result"), "it is changed")
    shown = shared_cluster.cli("bucket", "show", "sessions").stdout.decode()
    assert "conflicts=lww" in shown
    assert "ttl=3600" in shown
    page.fill("bucket-field-w", "9")
    page.click("bucket-save")
    page.until(lambda: "Not changed" in page.text("bucket-result"), "nonsense is refused, in words")


def test_a_plan_is_shown_before_anything_is_done(driver: object, shared_cluster: Cluster) -> None:
    page = page_of(driver, shared_cluster)
    page.open("membership")
    page.until(lambda: page.all("#weigh-n2"), "members are listed")
    page.fill("weight-of-n2", "3")
    page.click("weigh-n2")
    page.until(page["plan"].is_displayed, "the plan is shown")
    assert "partitions that get another owner" in page.text("plan-body")
    page.click("plan-cancel")
    page.until(lambda: not page["plan"].is_displayed(), "it is left")
    assert b'"weight": 1' in shared_cluster.cli("members", "--json").stdout


def test_the_keyboard_is_enough(driver: object, shared_cluster: Cluster) -> None:
    assert put(shared_cluster, "carts", "keys", b"typed") == 204
    page = page_of(driver, shared_cluster)
    page.open()
    stops = []
    while len(stops) < 12 and "Inspect a key" not in stops:
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        stops.append(page.driver.switch_to.active_element.text)
    assert stops == ["To the content", "Overview", "Inspect a key"]
    outline = page.driver.switch_to.active_element.value_of_css_property("outline-style")
    assert outline == "solid", "one sees where one is"
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    page.until(page["view-inspect"].is_displayed, "the view is shown")
    page["inspect-bucket"].send_keys("carts", Keys.TAB)
    page.driver.switch_to.active_element.send_keys("keys", Keys.ENTER)
    page.until(lambda: page.texts("#inspect-siblings pre") == ["typed"], "it is found")


@pytest.mark.parametrize("view", ["overview", "inspect", "buckets", "membership"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_light_and_dark(driver: object, shared_cluster: Cluster, view: str, scheme: str) -> None:
    page = page_of(driver, shared_cluster)
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        page.open(view)
        width = page.driver.execute_script("return document.documentElement.scrollWidth")
        assert width <= 360
        back = page.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        brightness = sum(int(part) for part in back.removeprefix("rgb(").removesuffix(")").split(","))
        assert (brightness > 600) == (scheme == "light")
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_node_goes_down_hints_are_kept_for_it_and_go_home(
    driver: object, make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster(nodes=4)
    page = page_of(driver, cluster)
    page.open()
    page.until(lambda: page.attribute("node-n4", "data-state") == "up", "all are up")
    cluster.node(4).kill()
    page.until(lambda: page.attribute("node-n4", "data-state") == "unreachable", "it is seen to be down")
    for index in range(100):
        assert put(cluster, "carts", f"key{index}", b"value") == 204
    page.until(lambda: page.text("hints-total") not in ("0", "–", ""), "hints are kept for it")
    assert "for n4" in page.text("hints")
    cluster.restart(4)
    page.until(lambda: page.attribute("node-n4", "data-state") == "up", "it is up again")
    page.until(lambda: page.text("hints-total") == "0", "its hints have gone home")
    page.check_conduct()


def test_a_node_that_is_gone_is_told_and_found_again(driver: object, make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    page = page_of(driver, cluster)
    page.open()
    cluster.node(1).kill()
    page.until(lambda: page.attribute("connection", "data-state") == "lost", "the page says so")
    assert "no answer from this node since" in page.text("connection")
    cluster.restart(1)
    page.until(lambda: page.attribute("connection", "data-state") == "live", "the page goes on by itself")
    page.check_conduct(LOST)


def test_faults_are_made_by_buttons_and_heal(driver: object, tmp_path: Path) -> None:
    """What a newcomer does first: kill a node, write, see a hint, start it again, see it go home."""
    up = Up(tmp_path / "data", free_base_port(), "--nodes", "4")
    try:
        addresses = up.wait_for("ready")["nodes"]
        port = int(addresses["n1"].rpartition(":")[2])
        page = Page(driver, f"http://127.0.0.1:{port + 100}")  # type: ignore[arg-type]
        page.open()
        page.until(page["local-card"].is_displayed, "the buttons are there")

        def press(node: str, action: str, state: str) -> None:
            page.until(lambda: page.all(f"#local-{node}-{action}"), f"{action} is offered")
            page.click(f"local-{node}-{action}")
            page.until(lambda: page.attribute(f"local-{node}", "data-state") == state, f"{node} is {state}")

        press("n4", "kill", "ended")
        page.until(lambda: page.attribute("node-n4", "data-state") == "unreachable", "it is seen to be down")
        written = [run_cli("put", "carts", f"key{n}", "milk", "--node", addresses["n1"]).returncode for n in range(20)]
        assert written == [0] * 20
        page.until(lambda: page.text("hints-total") not in ("0", "–", ""), "hints are kept for it")
        press("n4", "start", "running")
        page.until(lambda: page.text("hints-total") == "0", "they have gone home")
        press("n3", "pause", "paused")
        page.until(lambda: page.attribute("node-n3", "data-state") != "up", "it does not answer")
        press("n3", "resume", "running")
        page.until(lambda: page.attribute("node-n3", "data-state") == "up", "it does again")
        press("n2", "cut", "cut")
        page.until(lambda: page.attribute("node-n2", "data-state") == "unreachable", "nobody reaches it")
        press("n2", "heal", "running")
        page.until(lambda: page.attribute("node-n2", "data-state") == "up", "it is back")
        page.click("local-n1-pause")
        page.until(lambda: "ask another node" in page.text("local-result"), "it would not survive asking for that")
        page.check_conduct(("status of 409",))
    finally:
        assert up.end() == 0
