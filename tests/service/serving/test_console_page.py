"""The console in a real browser, over a real application with several versions."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.environment.waiting import wait_for
from tests.support.services.browser import PHONE, Page, browser
from tests.support.services.model_swaps import ANOTHER_GOOD, GOOD, TOKEN, WRONG_SCORES, Versions
from tests.support.serving.predict_app import ROW

pytestmark = [pytest.mark.ray, pytest.mark.chromium]

PLANTED = "<script>document.title='planted'</script><img src=x onerror=\"document.title='planted'\">"


@pytest.fixture(scope="module")
def window() -> Iterator[Page]:
    """One browser for all tests."""
    with browser() as page:
        yield page


@pytest.fixture
def page(versions: Versions, window: Page) -> Page:
    """The console as it is opened for the first time, with version 1 answering alone."""
    versions.reset()
    window.open(f"{versions.place.url}/console")
    wait_state(window, "live")
    wait_in_step(versions, window)
    window.messages()
    return window


def wait_state(page: Page, state: str) -> None:
    """Wait until the page is live, or says that it is stale."""
    wait_for(lambda: page.run("return document.documentElement.dataset.state") == state, f"the page to be {state}")


def wait_in_step(versions: Versions, page: Page) -> None:
    """Wait until the page shows the rules in force: a change is for the epoch that is shown."""
    epoch = str(versions.look("rules")["epoch"])
    wait_for(lambda: page.text("#tiles .tile:last-child b") == epoch, f"the page to show epoch {epoch}")


def ask(versions: Versions, entities: int) -> None:
    """Requests of so many entities."""
    for at in range(entities):
        versions.ask(json.dumps({**ROW, "user_id": f"u{at}"}).encode())


def unlock(page: Page, token: str = TOKEN) -> None:
    """Type a token."""
    page.press("#lock")
    page.type("#token", token)
    page.press("#unlock button[type=submit]")


def unlocked(page: Page) -> None:
    """Type the right one, and wait until the buttons work."""
    unlock(page)
    page.wait_text("#lock", "Lock")


def complaints(page: Page) -> list[str]:
    """What the browser found wrong, but for data that a busy Control was too late with: the page asks for it again."""
    late = "/console/data - Failed to load resource: the server responded with a status of 503"
    return [message for message in page.messages() if late not in message]


def said(page: Page) -> str:
    """What the dialog says came of it."""
    wait_for(lambda: page.text("#action .said") not in ("", "Asking…"), "an answer in the dialog", 60)
    return page.text("#action .said")


def confirm(page: Page, why: str = "a test") -> str:
    """Give a reason, press the dialog's button, and return what came of it."""
    page.type("#why", why)
    page.press("#action button[type=submit]")
    return said(page)


def test_it_shows_what_is_in_force(versions: Versions, page: Page):
    """Champion, versions with roles and figures, traffic, replicas, and the rates once there is traffic."""
    versions.change("weight", version=GOOD, weight=40)
    versions.change("weight", version=ANOTHER_GOOD, weight=100, mode="shadow")
    ask(versions, 60)
    page.wait_text(".share[data-version='2']", "40 %")
    assert page.text(".share[data-version='1']") == "60 %"
    assert "v5 listens to 100 %" in page.text("#traffic")
    row = "tr[data-version='1']"
    figures = page.text(row)
    assert "champion" in figures
    assert "4 of 4" in figures
    page.wait_text("tr[data-version='3']", "registered")
    wait_for(lambda: page.text("#charts .legend") != "" and bool(page.all("#charts path.line")), "lines in the charts")
    page.wait_text(f"{row} td[data-label='p99']", "ms")
    page.wait_text("#shadows", "beside champion v1")
    assert all(name in page.text("#replicas") for name in ("Gateway", "FeatureFetch", "Model"))
    assert page.text("#rollout").startswith("None yet")
    assert "ago and knows nothing of before" in page.text("#watched")
    assert complaints(page) == []


def test_without_the_token_no_button_works(page: Page):
    """Every button that changes something is there to be seen, and off."""
    page.wait_text("#versions", "Give it a share")
    buttons = page.all("main button")
    assert len(buttons) >= 4
    assert not any(button.is_enabled() for button in buttons)
    page.run("document.querySelector('main button').click()")
    assert not page.find("#action").is_displayed()


def test_a_wrong_token_is_told(page: Page):
    """And it opens nothing; nor does one that no header could carry."""
    for wrong in ("not the token of this service", "gëheim"):
        unlock(page, wrong)
        page.wait_text("#unlock .said", "not the token")
        page.press("#unlock [data-close]")
    assert page.text("#lock") == "Unlock"


def test_a_weight_is_set(versions: Versions, page: Page):
    """A registered version is given a share: said before, done, seen, and recorded with its reason."""
    unlocked(page)
    page.press("button[data-act=weight][data-version='2']")
    page.type("#weight", "25")
    assert "answers 25 % of the entities" in page.text(".effect")
    epoch = versions.look("rules")["epoch"]
    assert f"epoch {epoch + 1}" in confirm(page, "first look")
    page.press("#action [data-close]")
    page.wait_text(".share[data-version='2']", "25 %")
    (challenger,) = versions.look("rules")["challengers"]
    assert (challenger["version"], challenger["weight"], challenger["mode"]) == (GOOD, 25, "live")
    assert versions.look("audit")[-1]["why"] == "first look"
    page.wait_text("#changes", "first look")
    page.press("button[data-act=weight][data-version='2']")
    page.press("#action input[value=shadow]")
    assert "listens to 25 %" in page.text(".effect")
    page.press("#action [data-preset='100']")
    confirm(page)
    assert versions.look("rules")["challengers"][0]["mode"] == "shadow"


def test_the_token_is_in_no_address(page: Page):
    """It goes into a header, is kept for the tab alone, and is gone when the page is locked."""
    unlocked(page)
    page.wait_text("#freshness", "live")
    addresses = page.run("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert any(address.endswith("/admin/rules") for address in addresses)
    assert not any(TOKEN in address for address in [*addresses, page.driver.current_url])
    assert page.run("return [localStorage.length, document.cookie]") == [0, ""]
    page.press("#lock")
    assert page.run("return sessionStorage.length") == 0
    wait_for(lambda: not page.find("button[data-act=add]").is_enabled(), "the buttons to be off")


def test_what_cannot_be_is_not_sent(versions: Versions, page: Page):
    """More than is left, the champion itself, no number: the dialog says so, and its button is off."""
    versions.change("weight", version=ANOTHER_GOOD, weight=90)
    unlocked(page)
    wait_in_step(versions, page)
    assert page.text(".share[data-version='5']") == "90 %"
    page.press("button[data-act=add]")
    for version, weight, words in ((GOOD, "20", "at most 10 %"), ("1", "5", "is the champion"), ("x", "5", "number")):
        page.type("#version", version)
        page.type("#weight", weight)
        assert words in page.text(".effect")
        assert not page.find("#action button[type=submit]").is_enabled()


def test_who_was_faster_is_not_overruled(versions: Versions, page: Page):
    """The change is for the epoch that was shown when the dialog was opened."""
    unlocked(page)
    page.press("button[data-act=add]")
    page.type("#version", ANOTHER_GOOD)
    versions.change("weight", version=GOOD, weight=7)
    assert "Nothing was changed" in confirm(page)
    assert [each["version"] for each in versions.look("rules")["challengers"]] == [GOOD]


def test_a_refusal_is_told_with_its_reason(page: Page):
    """A version whose model does not score as recorded: the dialog and the page say so."""
    unlocked(page)
    page.press("button[data-act=add]")
    page.type("#version", WRONG_SCORES)
    assert "probe rows differ" in confirm(page)
    page.press("#action [data-close]")
    page.wait_text("#refusals", "probe rows differ")


def test_promote_and_back(versions: Versions, page: Page):
    """Each says what it will do, and does it: a version becomes champion, and the one before comes back."""
    versions.change("weight", version=GOOD, weight=50)
    unlocked(page)
    wait_in_step(versions, page)
    page.press("button[data-act=promote][data-version='2']")
    assert "Version 1 answers nobody any more" in page.text(".effect")
    assert "In force" in confirm(page)
    page.press("#action [data-close]")
    page.wait_text("tr[data-version='2']", "champion")
    assert versions.look("rules")["champion"] == GOOD
    wait_in_step(versions, page)
    page.press("button[data-act=rollback]")
    assert "Version 1, the champion before version 2" in page.text(".effect")
    assert "In force" in confirm(page)
    page.press("#action [data-close]")
    page.wait_text("tr[data-version='1']", "champion")
    assert versions.look("rules")["champion"] == "1"


@pytest.mark.parametrize("act", ["out", "rollback"])
def test_a_challenger_is_taken_out(versions: Versions, page: Page, act: str):
    """By its own button, and by a rollback, which takes all live ones."""
    versions.change("weight", version=GOOD, weight=50)
    unlocked(page)
    wait_in_step(versions, page)
    assert page.text(".share[data-version='2']") == "50 %"
    page.press(f"button[data-act={act}]")
    assert "no traffic any more" in page.text(".effect")
    assert "In force" in confirm(page)
    assert versions.look("rules")["challengers"] == []


def test_a_planted_script_is_text(versions: Versions, page: Page):
    """Markup in a reason is shown as it was typed, and nothing of it runs."""
    versions.change("weight", version=GOOD, weight=3, why=PLANTED)
    page.wait_text("#changes", PLANTED)
    assert page.run("return document.querySelectorAll('main script, main img').length") == 0
    assert "rayscore" in page.driver.title
    assert complaints(page) == []
    # Even what got into the page as markup could not run.
    page.run(
        "const it = document.createElement('script'); it.textContent = 'document.title = 1'; document.body.append(it)"
    )
    assert page.driver.title != "1"


@pytest.mark.parametrize("size", [PHONE, (768, 1024)], ids=["phone", "tablet"])
def test_nothing_is_wider_than_the_screen(versions: Versions, page: Page, size: tuple[int, int]):
    """On a phone everything is read by scrolling down alone, also the dialogs."""
    versions.change("weight", version=GOOD, weight=30)
    versions.change("weight", version=ANOTHER_GOOD, weight=100, mode="shadow", why="x" * 300)
    page.open(f"{versions.place.url}/console", size)
    wait_state(page, "live")
    page.wait_text("#changes", "x" * 300)
    wider = """return [document.documentElement, ...document.querySelectorAll("main *")].filter((each) =>
        each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).display !== "inline"
        && !each.matches(".unseen, svg, svg *")).map((each) => each.outerHTML.slice(0, 100))"""
    assert page.run("return innerWidth") == size[0]
    # Bars grow to their width when they change.
    wait_for(lambda: page.run(wider) == [], "everything to fit the screen", 60)
    unlocked(page)
    page.press("button[data-act=weight][data-version='2']")
    box = page.run("const r = document.querySelector('#action').getBoundingClientRect(); return [r.left, r.right]")
    assert 0 <= box[0] < box[1] <= size[0]
    assert page.run(wider) == []


def test_everything_has_a_name(page: Page):
    """Buttons, fields and charts say what they are to who does not see them."""
    unlocked(page)
    page.press("button[data-act=add]")
    nameless = """
        const all = [...document.querySelectorAll("button, input, svg, [role=img], dialog, section")];
        const named = (each) => each.tagName === "BUTTON" && each.textContent.trim();
        return all.filter((each) => !named(each) && !each.getAttribute("aria-label")
        && !each.getAttribute("aria-labelledby") && !each.labels?.length).map((each) => each.outerHTML.slice(0, 200))"""
    assert page.run(nameless) == []
    assert page.run("return document.documentElement.lang") == "en"


def test_a_disabled_admin_api_is_explained(page: Page):
    """Where no token is set the page says how to set one. The service's answer is changed on its way to say so."""
    page.run("""
        const real = window.fetch;
        window.fetch = async (...given) => {
            const answer = await real(...given);
            if (!String(given[0]).endsWith("console/data")) return answer;
            return new Response(JSON.stringify({...await answer.json(), admin_open: false}), {status: 200});
        };""")
    page.wait_text("#lock", "Read-only")
    page.press("#lock")
    assert "RAYSCORE_ADMIN_TOKEN" in page.text("#unlock pre")
    assert page.all("#unlock input") == []


def test_control_that_is_away_is_said(versions: Versions, page: Page):
    """Control stops, then dies: the page says so and keeps what it knew; predictions go on; then it is live again."""
    (control,) = versions.place.processes("ServeReplica:default:Control")
    os.kill(control, signal.SIGSTOP)
    wait_state(page, "stale")
    assert "Control does not answer. Predictions go on" in page.text("#banner")
    assert "champion" in page.text("tr[data-version='1']")
    assert versions.ask(json.dumps(ROW).encode()).status_code == 200
    os.kill(control, signal.SIGKILL)
    wait_state(page, "live")
    assert not page.find("#banner").is_displayed()
    page.wait_text("#watched", "knows nothing of before")


def test_nothing_of_the_machine_is_given_away(versions: Versions, page: Page):
    """The open data holds no folder of the service, no address and not the token."""
    versions.act("weight", version="77", weight=1)
    text = page.run("return fetch('console/data').then((answer) => answer.text())")
    assert "77" in text
    for secret in (TOKEN, str(versions.place.folder), str(versions.place.var), "127.0.0.1", "audit.jsonl"):
        assert secret not in text
