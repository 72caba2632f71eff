"""A catalogue of 240 tools as a company has them, and tasks in people's words with the tools that they need.

Twenty-four things, ten of something to do with each. `TASKS` share words with the tools that they need; `OTHER_WORDS` hardly do:
who is off is on vacation, a bill is an invoice.
"""

from __future__ import annotations

from firmplan import Tool

TEXT = {"type": "string"}

THINGS = {
    "invoice": "invoices that suppliers sent us",
    "customer": "customers and their addresses",
    "order": "orders that customers placed",
    "shipment": "shipments under way to customers",
    "employee": "employees of the company",
    "vacation": "vacation days of staff",
    "meeting": "meetings in the calendar",
    "room": "rooms that can be booked",
    "ticket": "support tickets of users",
    "article": "articles in the knowledge base",
    "product": "products in the shop",
    "stock": "stock in the warehouse",
    "contract": "contracts with partners",
    "candidate": "candidates who applied for a job",
    "server": "servers in the data centre",
    "backup": "backups of databases",
    "certificate": "TLS certificates of domains",
    "release": "releases of our software",
    "bug": "bugs reported in the tracker",
    "campaign": "marketing campaigns by email",
    "survey": "surveys and what was answered",
    "expense": "expense claims for business trips",
    "vehicle": "vehicles of the car pool",
    "payment": "payments between bank accounts",
}
DEEDS = {
    "list": ("List {}, newest first.", ("page",)),
    "find": ("Search {} by words.", ("words",)),
    "get": ("Read one of the {} with all details.", ("id",)),
    "create": ("Add a new entry to the {}.", ("title",)),
    "update": ("Change fields of one of the {}.", ("id", "field")),
    "delete": ("Remove one of the {} for good.", ("id",)),
    "export": ("Export {} to a spreadsheet file.", ("path",)),
    "count": ("Count {} by month.", ("year",)),
    "approve": ("Approve one of the {} that waits for it.", ("id", "by")),
    "notify": ("Send a message to whoever is responsible for one of the {}.", ("id", "text")),
}
TASKS = {
    "Search our invoices for Acme and approve the ones found": ["find_invoice", "approve_invoice"],
    "Count the support tickets of each month in 2024": ["count_ticket"],
    "Export all employees to a spreadsheet": ["export_employee"],
    "Remove the room Blue from those that can be booked": ["find_room", "delete_room"],
    "Which TLS certificates do we have? Read the newest one": ["list_certificate", "get_certificate"],
    "Create a meeting on Monday": ["create_meeting"],
    "Find the candidate Jane Doe and notify whoever is responsible": ["find_candidate", "notify_candidate"],
    "List the servers in the data centre": ["list_server"],
    "Update the address of customer 17": ["update_customer"],
    "Approve all expense claims that wait": ["list_expense", "approve_expense"],
    "How many orders were placed in each month of 2023?": ["count_order"],
    "Delete the backup of the old database": ["find_backup", "delete_backup"],
    "Read the contract with Globex": ["find_contract", "get_contract"],
    "Export the products and the stock of the warehouse to spreadsheets": ["export_product", "export_stock"],
    "List the bugs in the tracker and create an article for each": ["list_bug", "create_article"],
    "Notify whoever is responsible for shipment 99 that it is late": ["notify_shipment"],
    "Approve the vacation of Bob": ["find_vacation", "approve_vacation"],
    "Count campaigns and surveys of this year": ["count_campaign", "count_survey"],
    "Create a new vehicle in the car pool": ["create_vehicle"],
    "Search payments to Initech and export them": ["find_payment", "export_payment"],
    "Update the release notes of release 2.1": ["update_release"],
    "Get the details of survey 4 and export what was answered": ["get_survey", "export_survey"],
    "List what customers ordered and what is on its way": ["list_order", "list_shipment"],
    "Delete article 12 of the knowledge base": ["delete_article"],
}

OTHER_WORDS = {
    "Who is off next week, and how many days has each left?": ["list_vacation"],
    "Bill 4711 is wrong: correct its amount": ["get_invoice", "update_invoice"],
    "Tell the colleague in charge that the laptop request HD-12 is urgent": ["notify_ticket"],
    "Have we any pallets of paint left?": ["find_stock"],
    "Book the large hall for Friday at nine": ["find_room", "create_meeting"],
    "Which domains stop being trusted soon?": ["list_certificate"],
    "Wire 300 euros to Initech and say so to the accountant": ["create_payment", "notify_payment"],
    "Where is the parcel for Mrs Smith?": ["find_shipment"],
    "What did people say about the canteen?": ["find_survey", "get_survey"],
    "Sign off Jane's hotel and train tickets from Berlin": ["find_expense", "approve_expense"],
    "Put the crash on start-up into the tracker": ["create_bug"],
    "Did last night's copy of the accounts work?": ["list_backup", "get_backup"],
    "Take the blue van out of the fleet": ["find_vehicle", "delete_vehicle"],
    "Write down how to reset a password, for everyone to read": ["create_article"],
    "Invite the applicant Lee to a talk on Tuesday": ["find_candidate", "create_meeting"],
    "How many newsletters did we send in 2024, month by month?": ["count_campaign"],
    "Raise the price of the red kettle": ["find_product", "update_product"],
    "Our agreement with Globex ran out: throw it away": ["find_contract", "delete_contract"],
    "Ship version 3 of the app": ["find_release", "approve_release"],
    "Move Ann to the sales team": ["find_employee", "update_employee"],
    "Turn off the machine db7 for ever": ["find_server", "delete_server"],
    "Note the new address of the Millers": ["find_customer", "update_customer"],
    "What did the Millers buy last?": ["find_order", "get_order"],
    "A table of all bills for the tax office": ["export_invoice"],
}


def catalogue():
    """Return the tools."""
    return [_tool(thing, deed) for thing in THINGS for deed in DEEDS]


def _tool(thing, deed):
    words, names = DEEDS[deed]
    parameters = {"type": "object", "properties": dict.fromkeys(names, TEXT), "required": list(names)}
    return Tool.from_callable(
        lambda **_: None,
        name=f"{deed}_{thing}",
        parameters=parameters,
        returns=TEXT,
        description=words.format(THINGS[thing]),
        effect="read",
    )
